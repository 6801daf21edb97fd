"""What several ranks could reach on this machine if they exchanged nothing: one process that trains, beside several at once.

Cores of one machine share caches, memory and, often, the arithmetic units of the processor below them. So several processes
do less than that many times the work of one, whatever lies between them. Each process takes the same steps of the project's own
trainer, on one thread and, where they take all cores, on one of its own, over batches that lie in its memory.

Then the same with each waiting for all others after every step, still without a number exchanged: what ranks that train
one model cannot do without, since none may be a step ahead. A step then takes as long as the slowest one's.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import time
from itertools import product
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair

from benchmarks.clickbench import refuse_missing
from ecdctr.distributed.launch import ALLOCATION

if TYPE_CHECKING:
    from ecdctr.training.trainer import Progress

WARM, STEPS, ROUNDS = 5, 30, 3
LINE = 8
"""Numbers of a cache line: each process counts its steps in one of its own."""
STALL_MILLISECONDS = 60_000
MODELS = ("deepfm", "din")


def main() -> None:
    """Measure, print a line for each model, and write the JSON file."""
    cache = Path(os.environ.get("CTR_BENCH_CACHE", Path.home() / ".cache/ctr-bench"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=cache / "data/clickbench-1000000-1000000", help="a log of the peers' benchmark"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rows", type=int, nargs="+", default=[2048, 4096, 8192], help="of a process's step")
    parser.add_argument("--out", type=Path, default=Path("runs/ceiling.json"))
    arguments = parser.parse_args()
    refuse_missing(parser, [arguments.data])
    # As for ranks; the C library reads it when a process starts.
    os.environ.update(ALLOCATION)
    found = []
    for model, rows in product(MODELS, arguments.rows):
        alone, together, in_step = [], [], []
        # In turns, so that what else the machine does falls on both.
        for _ in range(ROUNDS):
            alone += _seconds(arguments.data, model, rows, 1)
            together += _seconds(arguments.data, model, rows, arguments.processes)
            in_step += _seconds(arguments.data, model, rows, arguments.processes, in_step=True)
        ratio, waiting = (arguments.processes * median(alone) / median(times) for times in (together, in_step))
        found.append(
            {
                "model": model,
                "processes": arguments.processes,
                "rows_per_step": rows,
                "alone_ms": median(alone) * 1e3,
                "together_ms": median(together) * 1e3,
                "ceiling": ratio,
                "in_step_ms": median(in_step) * 1e3,
                "in_step": waiting,
            }
        )
        print(
            f"{model}: a step of {rows:,} rows takes {median(alone) * 1e3:.1f} ms in one process, {median(together) * 1e3:.1f} ms "
            f"in each of {arguments.processes}: together at most {ratio:.2f} times the work of one; where they wait for each other "
            f"after every step {median(in_step) * 1e3:.1f} ms: {waiting:.2f} times",
            flush=True,
        )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _seconds(data: Path, model: str, rows: int, processes: int, *, in_step: bool = False) -> list[float]:
    """Seconds of a step in each of so many processes that run at once."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(processes)
    counters = context.RawArray(ctypes.c_int64, processes * LINE)
    with context.Pool(processes, initializer=_join, initargs=(together, counters)) as pool:
        return pool.starmap(
            _train, [(data, model, rows, number, processes, in_step) for number in range(processes)], chunksize=1
        )


_together: Barrier | None = None
_counters: Any = None


def _join(together: Barrier, counters: Any) -> None:
    global _together, _counters
    _together, _counters = together, counters


def _wait_for_all(number: int, processes: int, step: int) -> None:
    """As ranks do that share memory."""
    from ecdctr.distributed.shared_memory import COUNTERS

    # What a pool's process raises must be an `Exception`: the pool would wait for ever for any other.
    if COUNTERS is None:
        raise RuntimeError("the library of counters was not built here: make setup")
    first = ctypes.addressof(_counters)
    COUNTERS.publish(first + number * LINE * 8, step)
    if COUNTERS.await_all(first, LINE, processes, step, STALL_MILLISECONDS) != processes:
        raise RuntimeError(f"a process has not come to step {step}")


def _train(data: Path, model: str, rows: int, seed: int, together: int, in_step: bool) -> float:
    import torch

    from benchmarks.clickbench import SIZES, ClickBench
    from ecdctr.config.training import TrainingConfig
    from ecdctr.data.reader import iterate
    from ecdctr.data.shard_plan import FileRows, plan_lanes
    from ecdctr.distributed.placement import bind
    from ecdctr.distributed.single import SingleProcess
    from ecdctr.models.registry import build
    from ecdctr.training.trainer import Trainer

    torch.set_num_threads(1)
    bind(seed, together, threads=1)
    log = ClickBench(data)
    features = log.features(model)
    network = build(
        model, features=features, rows={name: log.meta["sizes"][name] for name in features.vocabularies}, seed=seed,
        **SIZES[model],
    )  # fmt: skip
    files = log.files("train")
    plan = plan_lanes(
        [FileRows(*file, constants=files.constants) for file in files.files], lanes=2, seed=seed, shuffle=True
    )
    batches = []
    for batch in iterate(plan, 0, 1, features, rows):
        batches.append(batch)
        if len(batches) == WARM + STEPS:
            break
    trainer = Trainer(network, SingleProcess(), TrainingConfig(batch_size=rows), seed)
    trainer.fit(batches[:WARM], WARM)
    assert _together is not None
    _together.wait(120)

    def on_step(progress: "Progress") -> None:
        if in_step:
            _wait_for_all(seed, together, progress.step)

    since = time.perf_counter()
    trainer.fit(batches[WARM:], WARM + STEPS, on_step=on_step)
    spent = (time.perf_counter() - since) / STEPS
    _together.wait(120)
    return spent


if __name__ == "__main__":
    main()
