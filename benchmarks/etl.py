"""Raw logs → samples, measured: `prepare`, the same by hand in Spark SQL, the same in DuckDB; `make bench-etl`.

Each contestant is a process of its own over the same simulated log, one at a time, with the heap asked for. The clock runs from
the session's being up to the last table's being written. Processor time is that of the process and all it starts,
so that it can be compared where the machine has other work. What was written is compared afterwards.
"""

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair

from benchmarks.etl_logs import DOMAINS, config, world
from benchmarks.process_tree import watch

LIMIT = 3600.0
ROOT = Path(__file__).parents[1]
CONTESTANTS = ("prepare", "by_hand", "duckdb")


def main() -> None:
    """Measure, compare, and write the JSON file."""
    arguments = _arguments()
    if arguments.child:
        _child(*arguments.child)
        return
    runs = json.loads(arguments.out.read_text(encoding="utf-8"))["runs"] if arguments.append else []
    for events in map(int, arguments.events):
        folder = arguments.work / str(events)
        log = folder / "log"
        rows = json.loads(_python("log", arguments.heap, log, str(events)).splitlines()[-1])
        for repetition in range(arguments.reps):
            for name in arguments.contestants:
                out = folder / name
                shutil.rmtree(out, ignore_errors=True)
                command = _command(name, log, out, arguments.work, arguments.heap)
                if command is None:
                    print("duckdb: no environment for it could be made; left out", file=sys.stderr)
                    continue
                print(f"{events:,} events, {name} …", file=sys.stderr, flush=True)
                run = {"contestant": name, "rows": rows, "repetition": repetition, "heap": arguments.heap}
                try:
                    run |= _measure(command, rows)
                    print(f"  {run['seconds']:.1f} s, {run['cpu_seconds']:.1f} s of processors", file=sys.stderr)
                except RuntimeError as error:
                    # Told on the page: how large a log a heap is enough for is a figure too.
                    run["failed"] = "ended without its tables"
                    print(f"  {error}", file=sys.stderr)
                runs.append(run)
        digests = json.loads(
            _python("digest", arguments.heap, folder, ",".join(arguments.contestants)).splitlines()[-1]
        )
        for run in runs:
            if run["rows"] == rows and run["contestant"] in digests and "failed" not in run:
                run["content"] = digests[run["contestant"]]
    machine = {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"machine": machine, "runs": runs}, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", nargs="+", type=float, default=[1e5, 1e6, 1e7])
    parser.add_argument("--reps", type=int, default=1)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--heap", default="2g", help="of the JVM, and what DuckDB may take")
    parser.add_argument("--work", type=Path, default=Path("runs/bench_etl"), help="logs and what becomes of them")
    parser.add_argument("--out", type=Path, default=Path("runs/etl.json"))
    parser.add_argument("--append", action="store_true", help="keep what the JSON file has")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(command: list[str], rows: int) -> dict[str, Any]:
    usage = watch(command, LIMIT, {"PYTHONPATH": str(ROOT)})
    ready, done = usage.lines.index("ready"), len(usage.lines) - 1
    (begin, before, other), (end, after, others) = usage.marks[ready], usage.marks[done]
    return {
        "seconds": end - begin,
        "cpu_seconds": after - before,
        "other_cpu_seconds": max(0.0, others - other - (after - before)),
        "events_per_second": rows / (end - begin),
        "peak_mb": usage.peak_mb,
        "stages": json.loads(usage.lines[done])["seconds"],
    }


def _command(name: str, log: Path, out: Path, work: Path, heap: str) -> list[str] | None:
    if name != "duckdb":
        return [sys.executable, "-m", "benchmarks.etl", "--child", name, heap, str(log), str(out)]
    python = _duckdb_environment(work / "duckdb")
    memory = heap.replace("g", "GB")
    return None if python is None else [python, str(ROOT / "benchmarks" / "etl_duckdb.py"), str(log), str(out), memory]


def _duckdb_environment(folder: Path) -> str | None:
    """An environment of its own, since the package does not depend on DuckDB; None where it cannot be installed."""
    python = folder / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
        if subprocess.run([str(python), "-c", "import duckdb"], capture_output=True, check=False).returncode:
            subprocess.run([str(python), "-m", "pip", "install", "-q", "duckdb"], check=True, timeout=300)
    except (subprocess.SubprocessError, OSError):
        return None
    return str(python)


def _python(*child: object) -> str:
    command = [sys.executable, "-m", "benchmarks.etl", "--child", *map(str, child)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=LIMIT).stdout


def _child(name: str, heap: str, log: str, *rest: str) -> None:
    from ecdctr.config.schema import SparkConfig
    from ecdctr.lake.session import spark_session

    spark = spark_session(SparkConfig(driver_memory=heap), "bench-etl")
    if name == "log":
        from ecdctr.datasets.simulator import simulate

        made = simulate(spark, Path(log), world(int(rest[0])))
        print(made.natural.rows + made.ads.rows)
    elif name == "digest":
        print(json.dumps({of: digest(spark, Path(log) / of, of) for of in rest[0].split(",")}))
    elif name == "prepare":
        from ecdctr.etl.prepare import prepare

        settings = config(Path(log), Path(rest[0]))
        print("ready", flush=True)
        summary = prepare(spark, settings, None)
        print(json.dumps({"seconds": summary.seconds}), flush=True)
    else:
        from benchmarks import etl_by_hand

        print("ready", flush=True)
        print(json.dumps({"seconds": etl_by_hand.run(spark, Path(log), Path(rest[0]))}), flush=True)


def digest(spark: Any, out: Path, contestant: str) -> dict[str, list[float]] | None:
    """Rows, a sum over hashes of each row's ids and lists, and the sum of its numbers, by domain."""
    from ecdctr.lake.tables import Lake

    if not out.exists():
        return None
    found = {}
    for domain in DOMAINS:
        if contestant == "prepare":
            rows = Lake(spark, out / "bench").read(f"{domain}_samples")
        else:
            rows = spark.read.parquet(str(out / f"{domain}_samples"))
        ids = ", ".join(name for name, kind in sorted(rows.dtypes) if kind in ("bigint", "array<bigint>", "string"))
        numbers = " + ".join(name for name, kind in sorted(rows.dtypes) if kind == "float" and name != "weight")
        (row,) = rows.selectExpr(
            "count(*) AS n", f"sum(shiftrightunsigned(xxhash64({ids}), 32)) AS h", f"sum({numbers}) AS x"
        ).collect()
        found[domain] = [row["n"], row["h"], float(f"{row['x'] or 0.0:.6g}")]
    return found


def same(one: dict[str, list[float]] | None, other: dict[str, list[float]] | None) -> bool:
    """Whether two contestants have written the same rows."""
    if one is None or other is None:
        return False
    return all(one[d][:2] == other[d][:2] and math.isclose(one[d][2], other[d][2], rel_tol=1e-4) for d in DOMAINS)


if __name__ == "__main__":
    main()
