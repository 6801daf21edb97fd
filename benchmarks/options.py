"""What `training.compile` and `training.autocast` bring on this processor: `make bench-options` writes docs/training_options.md.

One process and one thread, so that what is compared is the network. Whole steps of the trainer on made-up rows, look-up and
update included; the first steps, in which torch compiles, are timed apart.
"""

import argparse
import copy
import os
import platform
import statistics
import time
from typing import Any

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch

from benchmarks.figures import spread
from ecdctr.config.training import TrainingConfig
from ecdctr.data.batch import Batch
from ecdctr.distributed.single import SingleProcess
from ecdctr.features import FeatureSet
from ecdctr.models.base import CTRModel
from ecdctr.models.registry import build
from ecdctr.training.compilation import compiled
from ecdctr.training.trainer import Trainer

FIELDS, NUMBERS, PLACES, IDS = 20, 4, 20, 50_000
BACKBONES = ("deepfm", "dcnv2", "din")
WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "compile": {"compile": True},
    "autocast bfloat16": {"autocast": "bfloat16"},
    "autocast float16": {"autocast": "float16"},
}
# Batches of a rank differ by some rows from step to step.
UNEVEN = 8


def main() -> None:
    """Measure, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2048, help="of a step")
    parser.add_argument("--steps", type=int, default=30, help="of each repetition, after two that are timed apart")
    parser.add_argument("--reps", type=int, default=3, help="interleaved repetitions")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    before = os.getloadavg()[0]
    found = {backbone: measure(backbone, arguments.rows, arguments.steps, arguments.reps) for backbone in BACKBONES}
    print(page(found, arguments.rows, arguments.reps, (before, os.getloadavg()[0])))


def features() -> FeatureSet:
    """Ids, numbers and a click history, as in the peers' log."""
    names = tuple(f"f{at:02d}" for at in range(FIELDS))
    return FeatureSet(
        id_fields=names,
        number_fields=tuple(f"n{at}" for at in range(NUMBERS)),
        sequence_fields={"clicks": PLACES},
        vocabulary_of={name: name for name in names} | {"clicks": "f01"},
        fixed_rows={},
        oov_buckets=dict.fromkeys(names, 1),
        attention={"clicks": "f01"},
    )


def rows_of(count: int, seed: int) -> Batch:
    """Made-up rows; histories are half empty on average."""
    generator = torch.Generator().manual_seed(seed)
    clicks = torch.randint(3, IDS, (count, PLACES), generator=generator)
    there = torch.arange(PLACES) < torch.randint(0, PLACES + 1, (count, 1), generator=generator)
    return Batch(
        ids=torch.randint(3, IDS, (count, FIELDS), generator=generator),
        numbers=torch.randn(count, NUMBERS, generator=generator),
        sequences={"clicks": clicks * there},
        label=(torch.rand(count, generator=generator) < 0.2).float(),
        weight=torch.ones(count),
        day=torch.zeros(count, dtype=torch.int64),
    )


def measure(backbone: str, rows: int, steps: int, reps: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of the first two steps, then milliseconds per step and the loss, of each way and repetition."""
    model = build(
        backbone,
        features=features(),
        rows=dict.fromkeys(features().vocabularies, IDS),
        seed=1,
        hidden_units=[256, 128, 64],
    )
    batches = [rows_of(rows - at % UNEVEN, at) for at in range(steps + 2)]
    found: dict[str, dict[str, list[float]]] = {name: {"first": [], "milliseconds": [], "loss": []} for name in WAYS}
    for _ in range(reps):
        for name, settings in WAYS.items():
            first, per_step, loss = one_run(copy.deepcopy(model), batches, TrainingConfig(**settings))
            found[name]["first"].append(first)
            found[name]["milliseconds"].append(1e3 * per_step)
            found[name]["loss"].append(loss)
    return found


def one_run(model: CTRModel, batches: list[Batch], settings: TrainingConfig) -> tuple[float, float, float]:
    """Seconds of the first two steps, seconds per further step, and the mean loss."""
    ends: list[float] = []
    trainer = Trainer(model, SingleProcess(), settings, seed=1)
    began = time.perf_counter()
    with compiled(model, settings.compile):
        progress = trainer.fit(batches, len(batches), on_step=lambda progress: ends.append(time.perf_counter()))
    return ends[1] - began, (ends[-1] - ends[1]) / (len(ends) - 2), progress.loss_sum / progress.weight_sum


def page(found: dict[str, dict[str, dict[str, list[float]]]], rows: int, reps: int, load: tuple[float, float]) -> str:
    """The whole page."""
    lines = [
        "# What the options of the loop bring",
        "",
        f"Written by `make bench-options`: one process, one thread, {rows:,} rows a step, {FIELDS} ids, {NUMBERS} numbers, "
        f"a history of {PLACES} places; {reps} interleaved repetitions, ratios within each; the range is over repetitions. "
        f"torch {torch.__version__}, {processor()}, {torch.backends.cpu.get_cpu_capability()}; load {load[0]:.1f} before, {load[1]:.1f} after.",
    ]
    for backbone, ways in found.items():
        lines += [
            "", f"## {backbone}", "",
            "| way | ms per step | as it is : it | seconds of the first two steps | mean loss |", "|---|---|---|---|---|",
        ]  # fmt: skip
        plain = ways["as it is"]["milliseconds"]
        for name, run in ways.items():
            ratio = spread((one / other for one, other in zip(plain, run["milliseconds"], strict=True)), "{:.2f}")
            lines.append(
                f"| {name} | {spread(run['milliseconds'], '{:.1f}')} | {ratio} | {spread(run['first'], '{:.1f}')} | "
                f"{statistics.mean(run['loss']):.5f} |"
            )
        fast = statistics.median(ways["compile"]["milliseconds"])
        saved = statistics.median(plain) - fast
        cost = 1e3 * (statistics.median(ways["compile"]["first"]) - statistics.median(ways["as it is"]["first"]))
        verdict = (
            f"pays from step {cost / saved:,.0f} on" if saved > 0 else "does not pay here, however long the training"
        )
        lines += ["", f"`compile` {verdict}."]
    return "\n".join(lines)


def processor() -> str:
    """Its name, where the system says it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "an unnamed processor"


if __name__ == "__main__":
    main()
