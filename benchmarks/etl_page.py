"""`etl.json` of `benchmarks.etl` → docs/etl_performance.md: every figure there was printed by a run."""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.etl import CONTESTANTS, same
from benchmarks.figures import spread

Run = dict[str, Any]
NAMES = {
    "prepare": "`ecdctr prepare`",
    "by_hand": "by hand in Spark SQL",
    "duckdb": "by hand in DuckDB",
}
WANTED = 1.3
DISTURBED = 0.10
"""Part of the machine's time that others may take before a run's wall time says nothing."""


def main() -> None:
    """Write the page to stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="the JSON file that benchmarks.etl wrote")
    found = json.loads(parser.parse_args().runs.read_text(encoding="utf-8"))
    print(page(found["runs"], found["machine"]))


def page(runs: Sequence[Run], machine: dict[str, Any]) -> str:
    """The whole page."""
    sizes = sorted({run["rows"] for run in runs})
    finished = [run for run in runs if "failed" not in run]
    sections = [section(rows, [run for run in runs if run["rows"] == rows], machine["cores"]) for rows in sizes]
    return "\n\n".join(
        part
        for part in [_head(machine), *sections, memory(finished, sizes), verdict(finished, sizes, machine["cores"])]
        if part
    )


def _head(machine: dict[str, Any]) -> str:
    return (
        "# ETL performance\n\n"
        "Written by `make bench-etl`: raw Parquet of the simulator → clean impressions, vocabulary, encoded samples with each user's\n"
        "last 20 clicks. `prepare` is what a user runs: it also checks every row, remembers what each file holds, and writes Delta\n"
        "tables with constraints that it can go on with after a crash. By hand in Spark SQL (`benchmarks/etl_by_hand.py`) the same rows\n"
        "are written as plain Parquet for this one log, in the same even files, with nothing of that: the floor. DuckDB writes the same\n"
        "rows in one process, without even files.\n\n"
        f"{machine['cores']} cores, one contestant at a time; from the session's being up to the last table. "
        "Seconds of processors are\nthose of the contestant's processes alone, and so hardly move with what else the machine does; "
        "wall seconds do. Memory is that\nof the process tree, shared pages counted once (PSS, MB)."
    )


def section(rows: int, runs: Sequence[Run], cores: int) -> str:
    """One size of log: all contestants, and where the time goes."""
    lines = [
        f"## {rows:,} events",
        "",
        "| | heap | runs | seconds | events/s | processor seconds | ours : it, wall | ours : it, processors | same rows as ours |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    whole = [run for run in runs if "failed" not in run]
    ours = {(run["heap"], run["repetition"]): run for run in whole if run["contestant"] == "prepare"}
    for name, heap in _entries(whole):
        mine = [run for run in whole if (run["contestant"], run["heap"]) == (name, heap)]
        calm = [run for run in mine if is_clean(run, cores)]
        places = [(run, (run["heap"], run["repetition"])) for run in mine if name != "prepare"]
        pairs = [(ours[place], run) for run, place in places if place in ours]
        cpu = spread((o["cpu_seconds"] / run["cpu_seconds"] for o, run in pairs), "{:.2f}", none="")
        clean = [pair for pair in pairs if all(is_clean(run, cores) for run in pair)]
        wall = spread((o["seconds"] / run["seconds"] for o, run in clean), "{:.2f}", none="") or (
            "disturbed" if pairs else ""
        )
        alike = "" if not pairs else "yes" if all(same(o["content"], run["content"]) for o, run in pairs) else "**no**"
        lines.append(
            f"| {NAMES[name]} | {heap} | {len(mine)} | {spread((r['seconds'] for r in calm), '{:.1f}', none='disturbed')} | "
            f"{spread((r['events_per_second'] for r in calm), '{:,.0f}')} | "
            f"{spread((r['cpu_seconds'] for r in mine), '{:.1f}')} | {wall} | {cpu} | {alike} |"
        )
    for run in runs:
        if "failed" in run:
            lines.append(f"| {NAMES[run['contestant']]} | {run['heap']} | 1 | {run['failed']} |  |  |  |  |  |")
    stages = [
        f"- {NAMES[name]}: {_stages([r for r in whole if r['contestant'] == name and is_clean(r, cores)])}"
        for name in CONTESTANTS
    ]
    lines += ["", "Seconds by stage:", "", *(line for line in stages if not line.endswith(": "))]
    return "\n".join(lines)


def memory(runs: Sequence[Run], sizes: Sequence[int]) -> str:
    """Peaks by size of log."""
    kinds = {"tree": "whole tree", "driver": "driver's Python", "jvm": "JVM", "workers": "Python workers"}
    lines = ["## Memory by size of log", "", f"| MB | {' | '.join(f'{rows:,} events' for rows in sizes)} |"]
    lines.append("|---|" + "---|" * len(sizes))
    for name, heap in _entries(runs):
        mine = [run for run in runs if (run["contestant"], run["heap"]) == (name, heap)]
        for kind, words in kinds.items():
            peaks = [max((run["peak_mb"][kind] for run in mine if run["rows"] == rows), default=0) for rows in sizes]
            if any(peaks) and (kind == "tree" or name == "prepare"):
                shown = " | ".join(f"{peak:,.0f}" if peak else "-" for peak in peaks)
                lines.append(f"| {NAMES[name]}, heap {heap}: {words} | {shown} |")
    lines += [
        "",
        "A JVM takes what its heap allows before it looks for what it could free: compare sizes within one heap.",
    ]
    return "\n".join(lines)


def _entries(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Contestants and heaps that have runs, in the order of the page."""
    found = {(CONTESTANTS.index(run["contestant"]), run["heap"]) for run in runs}
    return [(CONTESTANTS[at], heap) for at, heap in sorted(found)]


def verdict(runs: Sequence[Run], sizes: Sequence[int], cores: int) -> str:
    """Whether the aim is reached, at the largest log."""
    floors = {run["heap"] for run in runs if run["contestant"] == "by_hand"}
    of = {
        name: [r for r in runs if r["rows"] == sizes[-1] and r["contestant"] == name and r["heap"] in floors]
        for name in CONTESTANTS
    }
    if not of["prepare"] or not of["by_hand"]:
        return ""
    clean = all(is_clean(run, cores) for run in (*of["prepare"], *of["by_hand"]))
    ratios = {
        words: statistics.median(r[key] for r in of["prepare"]) / statistics.median(r[key] for r in of["by_hand"])
        for key, words in (("seconds", "wall time"), ("cpu_seconds", "processor time"))
        if clean or key == "cpu_seconds"
    }
    reached = [ratio <= WANTED for ratio in ratios.values()]
    said = "reached" if all(reached) else "reached by one of the two" if any(reached) else "not reached"
    figures = " and ".join(f"{ratio:.2f} by {words}" for words, ratio in ratios.items())
    left_out = "" if clean else " Wall times were disturbed by other work on the machine, and are not compared."
    return (
        f"## Against the hand-written Spark\n\nAt {sizes[-1]:,} events the ratio is {figures}; at most {WANTED} is wanted: {said}."
        + left_out
    )


def is_clean(run: Run, cores: int) -> bool:
    """Whether a run had the machine to itself."""
    return bool(run.get("other_cpu_seconds", math.inf) <= DISTURBED * run["seconds"] * cores)


def _stages(runs: Sequence[Run]) -> str:
    names = dict.fromkeys(stage for run in runs for stage in run["stages"])
    return " · ".join(
        f"{stage} {statistics.median(run['stages'].get(stage, 0.0) for run in runs):.1f}" for stage in names
    )


if __name__ == "__main__":
    main()
