"""What a second rank brings: the runner of the peers' benchmark with one rank and with two, one thread each, in turns.

Beside a global batch that the ranks share, as the peers' benchmark has it, each rank gets as many rows in a step as the one
has alone: then a step's fixed cost and the rows that its ids share weigh the same on both sides, as where ranks are added to
train on more data. The one rank also runs held to one core, as each of two is, and the two also as the system moves them about.
`make bench-ranks` puts it on docs/performance.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.ceiling import MODELS
from benchmarks.clickbench import refuse_missing

ROOT = Path(__file__).parents[1]
HELD, MOVED = ("--cores", "1"), ("--no-binding",)
"""Options of the runner: held to one core, moved about by the system."""
# Ranks, rows of each rank's step, options: a batch of 4,096 rows as one, as two halves, and one of the halves; then steps four times as large.
SHAPES: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    (1, 4096, ()),
    *((ranks, rows, options) for rows in (2048, 8192) for ranks, options in ((1, ()), (1, HELD), (2, ()), (2, MOVED))),
)


def main() -> None:
    """Measure, print a line for each run, and write the JSON file."""
    cache = Path(os.environ.get("CTR_BENCH_CACHE", Path.home() / ".cache/ctr-bench"))
    parser = argparse.ArgumentParser(description=__doc__)
    logs = [cache / f"data/clickbench-1000000-{vocab}" for vocab in (100_000, 10_000_000)]
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        default=logs,
        help="logs of the peers' benchmark; by default small and large tables",
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--reps", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/more_ranks.json"))
    arguments = parser.parse_args()
    refuse_missing(parser, arguments.data)
    found = []
    for model, data, rep in product(arguments.models, arguments.data, range(arguments.reps)):
        for ranks, rows, options in SHAPES:
            run = _run(data, model, ranks, rows, options) | {"rep": rep}
            found.append(run)
            shape = " ".join([f"{ranks} x {rows:,} rows", *options])
            print(f"{model}, {run['ids']:,} ids, {shape}: {run['samples_per_second']:,.0f}/s", flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _run(data: Path, model: str, ranks: int, rows: int, options: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ecdctr-ranks-") as work:
        result = Path(work) / "result.json"
        subprocess.run(
            [
                sys.executable, "-m", "benchmarks.runner", "--data", data, "--model", model, "--result", result, "--work", work,
                "--ranks", str(ranks), "--threads-per-rank", "1", "--batch-size", str(ranks * rows),
                *options,
            ],
            check=True, cwd=ROOT, timeout=600,
        )  # fmt: skip
        told = json.loads(result.read_text(encoding="utf-8"))
    # The rank that the others wait for.
    phases = max(told["rank_phases"], key=lambda one: sum(one.values()) - one["exchange"])
    meta = json.loads((data / "meta.json").read_text(encoding="utf-8"))
    return {
        "model": model,
        "ids": sum(meta["sizes"].values()),
        "ranks": ranks,
        "rows": rows,
        "options": list(options),
        "samples_per_second": told["steady_sps"],
        "step_ms": {name: 1e3 * seconds / told["n_steps"] for name, seconds in phases.items()},
    }


if __name__ == "__main__":
    main()
