"""A vocabulary of very many tokens, grown over two days by what `prepare` calls; `make bench-vocabulary` writes docs/vocabulary_size.md.

Three processes for each size: one writes the impressions, one grows the vocabulary by them day by day, which alone is measured,
one checks the ids by aggregates and joins. All work on real Delta tables in a folder that is removed afterwards.
"""

import argparse
import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.process_tree import watch

ROOT = Path(__file__).parents[1]
DAYS = (dt.date(2024, 1, 1), dt.date(2024, 1, 2))
AGAIN = 10
"""One in so many tokens of the first day is seen on the second too."""
FIELD = "item_id"


def main() -> None:
    """Measure, and write the JSON file and the page."""
    arguments = _arguments()
    if arguments.child:
        _child(*arguments.child, slots=arguments.slots, heap=arguments.heap)
        return
    kept = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.append or arguments.page_only else []
    for tokens in [] if arguments.page_only else map(int, arguments.tokens):
        folder = arguments.work / str(tokens)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            run = _measure(folder, tokens, arguments)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        kept = [*(one for one in kept if (one["tokens"], one["heap"]) != (tokens, arguments.heap)), run]
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(page(kept))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", nargs="+", type=float, default=[1e6, 1e7])
    parser.add_argument("--heap", default="2g", help="of the driver's JVM, in which all tasks run too")
    parser.add_argument("--slots", default="2", help="tasks at once")
    parser.add_argument("--work", type=Path, default=Path("runs/bench_vocabulary"), help="tables and what Spark spills")
    parser.add_argument("--out", type=Path, default=Path("runs/vocabulary.json"))
    parser.add_argument("--limit", type=float, default=7200.0, help="seconds of each process")
    parser.add_argument("--append", action="store_true", help="keep what the JSON file has of other sizes")
    parser.add_argument("--page-only", action="store_true", help="write the page from the JSON file")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(folder: Path, tokens: int, arguments: argparse.Namespace) -> dict[str, Any]:
    settings = ["--heap", arguments.heap, "--slots", arguments.slots, "--child"]
    command = [sys.executable, "-m", "benchmarks.vocabulary", *settings]

    def last_line(*child: str) -> Any:
        done = subprocess.run([*command, *child], check=True, stdout=subprocess.PIPE, timeout=arguments.limit)
        return json.loads(done.stdout.splitlines()[-1])

    print(f"{tokens:,} tokens: impressions …", file=sys.stderr, flush=True)
    rows = last_line("log", str(folder), str(tokens))
    print(f"{tokens:,} tokens: vocabulary …", file=sys.stderr, flush=True)
    usage = watch([*command, "grow", str(folder)], arguments.limit, {"PYTHONPATH": str(ROOT)})
    said = [json.loads(line) for line in usage.lines if line.startswith("{")]
    marks = usage.marks[-len(said) - 1 :]
    days = [
        day | {"rows": rows[place], "seconds": end[0] - begin[0], "cpu_seconds": end[1] - begin[1]}
        for place, (day, begin, end) in enumerate(zip(said, marks, marks[1:], strict=False))
    ]
    print("  " + ", ".join(f"{day['seconds']:.1f} s" for day in days) + "; checks …", file=sys.stderr, flush=True)
    size = {name: sum(file.stat().st_size for file in (folder / "bench" / name).rglob("*.parquet")) for name in TABLES}
    checks = last_line("check", str(folder), str(tokens))
    return {
        "tokens": tokens, "heap": arguments.heap, "slots": arguments.slots, "cores": os.cpu_count(), "days": days,
        "peak_mb": usage.peak_mb, "bytes": size, "checks": checks,
    }  # fmt: skip


TABLES = ("natural_impressions", "vocabulary")


def _child(job: str, folder: str, tokens: str = "0", *, slots: str, heap: str) -> None:
    from ecdctr.config import Config
    from ecdctr.config.schema import SparkConfig
    from ecdctr.lake.session import spark_session
    from ecdctr.lake.tables import Lake

    spill = Path(folder).absolute() / "spill"
    settings = SparkConfig(master=f"local[{slots}]", driver_memory=heap, options={"spark.local.dir": str(spill)})
    columns = {"user": "u", "item": "i", "time": {"column": "t"}, "label": "c", "event_id": ["e"]}
    config = Config.model_validate(
        {
            "name": "bench",
            "warehouse": folder,
            "vocabularies": {"item_id": {"min_count": 1}, "user_id": {"min_count": 1}},
            "dataset": {"natural": {"path": "-"}, "ads": {"path": "-"}, "columns": columns, "features": []},
        }
    )
    spark = spark_session(settings, "bench-vocabulary")
    lake = Lake(spark, config.warehouse_dir)
    if job == "log":
        print(json.dumps(_write_log(lake, int(tokens))))
    elif job == "grow":
        _grow(lake, config)
    else:
        spark.conf.set("spark.sql.shuffle.partitions", str(4 + int(tokens) // 2_000_000))
        print(json.dumps(check(lake, int(tokens))))


def _write_log(lake: Any, tokens: int) -> list[int]:
    """Half of the tokens on each day, some of the first day's again on the second; gives the rows of each day."""
    half = tokens // 2
    lake.create("ad_impressions")
    days = [lake.spark.range(half), lake.spark.range(half // AGAIN).union(lake.spark.range(half, tokens))]
    for place, (day, rows) in enumerate(zip(DAYS, days, strict=True)):
        # An odd factor modulo a power of two deals every number another one, in no order.
        rows = rows.selectExpr(
            f"concat('{place}-', id) AS event_id",
            "concat('u', id % 1000) AS user_id",
            "concat('i', lower(hex(pmod(id * 6364136223, 1099511627776)))) AS item_id",
            f"TIMESTAMP'{day} 00:00:00' + make_dt_interval(0, 0, 0, id % 86400) AS event_time",
            f"DATE'{day}' AS event_date",
            "0 AS label",
        )
        lake.replace_days("natural_impressions", rows, day, day + dt.timedelta(days=1))
    return [half, half // AGAIN + tokens - half]


def _grow(lake: Any, config: Any) -> None:
    from ecdctr.etl import vocabulary
    from ecdctr.features.feature_set import feature_set

    plans: list[str] = []
    append = lake.append

    def seen(name: str, frame: Any, *commit: Any) -> int:
        plans.append(frame._jdf.queryExecution().executedPlan().toString())
        return int(append(name, frame, *commit))

    lake.append = seen
    features = feature_set(config.dataset, {name: rules.oov_buckets for name, rules in config.vocabularies.items()})
    print("ready", flush=True)
    for number, day in enumerate(DAYS, 1):
        admitted = vocabulary.grow(lake, config, features, day, day + dt.timedelta(days=1), ("prepare", number))
        joins = joins_of(plans[-1])
        version = lake.version(vocabulary.TABLE)
        print(json.dumps({"admitted": admitted, "joins": joins, "version": version}), flush=True)


def check(lake: Any, tokens: int) -> dict[str, bool]:
    """Whether the ids are unique, without gaps, those of the tokens of the log, and the same after the second day."""
    from pyspark.sql import functions as F

    from ecdctr.features.encoding import first_token_id

    last = lake.version("vocabulary")
    now, before = (lake.read("vocabulary", at).where(F.col("field") == FIELD) for at in (last, last - 1))
    ids, words = F.count_distinct("id").alias("ids"), F.count_distinct("token").alias("words")
    found = now.agg(F.count("*").alias("rows"), F.min("id").alias("low"), F.max("id").alias("high")).first()
    first = first_token_id(1)
    kept = before.select("token", "id").join(now.select("token", "id"), ["token", "id"]).count()
    seen = lake.read("natural_impressions").select(F.col(FIELD).alias("token"))
    return {
        "unique": now.agg(ids).first()["ids"] == now.agg(words).first()["words"] == found["rows"] == tokens,
        "dense": (found["low"], found["high"]) == (first, first + tokens - 1),
        "stable": kept == before.count() == tokens // 2,
        "complete": seen.join(now.select("token"), "token", "left_anti").count() == 0,
    }


def joins_of(plan: str) -> list[str]:
    """The different joins of a physical plan: how, on what, and of which type."""
    found = set()
    for way, rest in re.findall(r"\b(\w+Join|CartesianProduct)\b([^\n]*)", plan):
        keys = re.search(r"\[([^\]]*)\]", rest)
        kind = re.search(r"Left\w+|Inner|Right\w+|FullOuter", rest)
        names = re.sub(r"#\d+L?", "", keys.group(1)) if keys else "nothing"
        found.add(f"{way} ({kind.group() if kind else '-'}) on {names}")
    return sorted(found)


def page(runs: list[dict[str, Any]]) -> str:
    """The whole page."""
    lines = [
        "# A vocabulary of very many tokens",
        "",
        "Written by `make bench-vocabulary`: so many tokens of one field, half of them first seen on each of two days, are",
        "admitted by the function that `ecdctr prepare` calls, on Delta tables, in one JVM that is driver and executor at once.",
        "Seconds from the call to the commit; a process of its own for each size, so that the first day includes what a",
        "fresh JVM has to load. Memory is the peak of the whole process, shared pages counted once (PSS, MB).",
        "",
        "| tokens | heap, tasks at once | first day: seconds, tokens/s | second day: seconds, tokens/s | JVM | driver's Python | table, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in sorted(runs, key=lambda run: (run["tokens"], run["heap"])):
        days = " | ".join(f"{day['seconds']:.1f}, {day['admitted'] / day['seconds']:,.0f}" for day in run["days"])
        peak = run["peak_mb"]
        lines.append(
            f"| {run['tokens']:,} | {run['heap']}, {run['slots']} | {days} | {peak['jvm']:,.0f} | {peak['driver']:,.0f} | "
            f"{run['bytes']['vocabulary'] / 1e6:,.0f} |"
        )
    lines += ["", "What was checked of each size, by counts and joins over the written tables:", ""]
    for run in sorted(runs, key=lambda run: (run["tokens"], run["heap"])):
        said = ", ".join(f"{name}: {'yes' if held else '**no**'}" for name, held in run["checks"].items())
        lines.append(
            f"- {run['tokens']:,}: {said}. Joins of the second day's plan: {'; '.join(run['days'][-1]['joins'])}."
        )
    lines += [
        "",
        "`unique`: as many ids as tokens as rows. `dense`: no gap between the first id and the last. `stable`: every token of the first",
        "day has the same id after the second. `complete`: no token of the log is without an id. Broadcast joins on `v`, `admitted` and",
        "`_range` send the first place of each day's block and of each range of tokens around; tokens are joined by sorting.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
