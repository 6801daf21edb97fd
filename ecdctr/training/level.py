"""Train one level on one rank: pinned inputs in, a published version out."""

import contextlib
import hashlib
import json
import logging
import resource
import time
from pathlib import Path
from typing import Any

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch

from ecdctr.artifacts.checkpoints import CheckpointFolder
from ecdctr.artifacts.parameters import parameter_digest
from ecdctr.artifacts.store import ArtifactStore, recorded
from ecdctr.artifacts.tensor_files import write_tensors
from ecdctr.distributed.collective import Collective
from ecdctr.distributed.tasks import Signals
from ecdctr.distributed.through_host import for_device
from ecdctr.exceptions import ConfigError, IntegrityError
from ecdctr.features.domains import DOMAINS
from ecdctr.models.base import CTRModel
from ecdctr.models.joint import JointModel
from ecdctr.training.compilation import compiled
from ecdctr.training.device import device_of, move
from ecdctr.training.early_stopping import summary_of
from ecdctr.training.level_batches import expired_ids, level_batches, plan_rows
from ecdctr.training.level_loop import LOOK_ROWS, LevelLoop
from ecdctr.training.pace import Pace
from ecdctr.training.predict import write_predictions
from ecdctr.training.prior import click_log_odds
from ecdctr.training.rates import Copied
from ecdctr.training.snapshot_export import export_snapshot
from ecdctr.training.structure import Structure
from ecdctr.training.table_plan import deal_tables
from ecdctr.training.task import LevelTask
from ecdctr.training.trainer import Progress, Trainer
from ecdctr.training.versions import (
    FROZEN_NETWORK,
    FROZEN_TABLES,
    NETWORK,
    OPTIMIZER,
    TABLES,
    Parts,
    link_tables,
    load_version,
    read_state,
    read_tensors,
)
from ecdctr.transfer.autoft import AutoFT
from ecdctr.transfer.fine_tuning import start_from
from ecdctr.transfer.frozen_tower import FrozenTower
from ecdctr.transfer.policy_statistics import PolicyStatistics

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")


def train_level(collective: Collective, task: LevelTask, signals: Signals) -> dict[str, Any]:
    """Train, publish and, where asked, score.

    A version of the same task that an interrupted run has left whole is adopted instead of trained again.

    Args:
        collective: The ranks that train together.
        task: What to train, equal on all ranks.
        signals: Stop requests and progress.

    Returns:
        The record of the version: steps, seconds, loss curve, digest, peak memory. Equal on all ranks but for what
        is measured on each.

    Raises:
        IntegrityError: The ranks' parameters differ at the end.
    """
    started = time.perf_counter()
    _forget_peak()
    device = device_of(task.training.device, collective.local_rank)
    collective = for_device(collective, device)
    store = ArtifactStore(Path(task.store))
    record = _adopt(collective, store, task)
    model = _build(task, collective, device)
    built, opening = time.perf_counter(), dict[str, float]()
    if record is None:
        trainer, moved = _prepare(model, collective, task)
        pace = Pace()
        opening = {"model": built - started, "parameters": time.perf_counter() - built}
        loop = LevelLoop(trainer, task, collective, signals, pace)
        with compiled(model, task.training.compile):
            progress = loop.run()
        opening |= loop.opening
        speed = pace.rate(task.train_rows * task.training.epochs / max(progress.steps, 1))
        record = _publish(trainer, progress, store, task, collective, moved, started, speed)
    else:
        load_version(model, store.path(task.version))
    if task.score is not None and task.score_dir is not None:
        since = time.perf_counter()
        batches = level_batches(
            task, collective, [task.score], epoch=0, shuffle=False, batch_size=LOOK_ROWS, names=True
        )
        if isinstance(model, AutoFT):
            statistics = PolicyStatistics(model, task.score_day)
            write_predictions(model, batches, Path(task.score_dir), collective, statistics.add)
            record["policies"] = statistics.gather(collective)
        else:
            write_predictions(model, batches, Path(task.score_dir), collective)
        record["score_seconds"] = time.perf_counter() - since
    if opening:
        record["opening"] = opening
    # Linux counts the peak resident set in KiB.
    record["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return record


def _forget_peak() -> None:
    """Have the peak of memory count from here: ranks stay for one level after the other."""
    # Linux alone has it; elsewhere the peak is that of the process so far.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _adopt(collective: Collective, store: ArtifactStore, task: LevelTask) -> dict[str, Any] | None:
    record = store.record(task.version)
    whole = record is not None and record["task_digest"] == task.digest()
    return record if not collective.any(not whole) else None


def _build(task: LevelTask, collective: Collective, device: torch.device = CPU) -> CTRModel:
    steps = 1
    if task.fine_tune is not None:
        # A version that goes on loads the count of the one that started from CPM.
        steps = plan_rows(task, task.train, 0, False).steps(task.training.batch_size) * task.training.epochs
    model = Structure.of(task).build(steps)
    if len(task.train) > 1 and not isinstance(model, JointModel):
        raise ConfigError(
            f"{task.backbone} has one head and cannot train on {len(task.train)} domains", hint="see docs/baselines.md"
        )
    model.attach(collective)
    move(model, device)
    sharded = deal_tables(model, task.training, collective)
    if sharded:
        logger.info("%s: rows of %s are dealt to %d ranks", task.version, ", ".join(sorted(sharded)), collective.size)
    return model


def _prepare(model: CTRModel, collective: Collective, task: LevelTask) -> tuple[Trainer, dict[str, list[str]]]:
    """Bring parameters and optimisers to where the task starts; every rank reads the same bytes itself."""
    moved: dict[str, list[str]] = {}
    rates = [click_log_odds(files, collective) for files in task.train]
    log_odds = rates[0]
    copied = None
    if task.start.kind == "scratch":
        for files, rate in zip(task.train, rates, strict=True):
            model.shift_logits(rate, DOMAINS.index(files.domain))
    elif task.start.kind == "warm":
        network, tables = read_state(Path(task.start.artifact or ""))
        report = start_from(model, network, tables, task.start.batch_norm)
        copied = Copied.of(model, report, tables)
        if task.start.log_odds is not None:
            model.shift_logits(log_odds - task.start.log_odds)
        moved = {
            "copied": report.copied, "grown": report.grown, "reinitialised": report.reinitialised, "skipped": report.skipped,
        }  # fmt: skip
    elif task.start.kind == "continue":
        load_version(model, Path(task.start.artifact or ""))
        copied = Copied.from_record(recorded(Path(task.start.artifact or "")).get("copied"))
    if task.tower is not None and isinstance(model, FrozenTower):
        model.load_source(*read_state(Path(task.tower.artifact)))
    trainer = Trainer(model, collective, task.training, task.seed, copied)
    trainer.progress.log_odds = log_odds
    if task.start.kind == "warm" and task.start.table_state == "copied":
        trainer.load_table_state(read_tensors(Path(task.start.artifact or ""), OPTIMIZER))
    if task.start.kind == "continue":
        trainer.load_optimizer_state(read_tensors(Path(task.start.artifact or ""), OPTIMIZER))
    # Rows that no parent gave are drawn now, which is no part of the first step.
    for each in (model.tables, *model.twin_tables()):
        each.draw()
    return trainer, moved


def _publish(
    trainer: Trainer,
    progress: Progress,
    store: ArtifactStore,
    task: LevelTask,
    collective: Collective,
    moved: dict[str, list[str]],
    started: float,
    speed: float | None,
) -> dict[str, Any]:
    model, layout = trainer.model, trainer.model.tables.layout
    network, tables = model.network_state(), model.tables.tables()
    whole = {name: table for name, table in tables.items() if name not in layout.sharded}
    digest = parameter_digest(network | whole | trainer.optimizer_state())
    if not collective.same(digest):
        raise IntegrityError(
            f"{task.version}: parameters differ between ranks after {progress.step} steps",
            hint="this is a fault of the exchange, not of your data; nothing was published",
        )
    parts = Parts(store.root, collective)
    parts.write(trainer)
    if parts.digests:
        digest = hashlib.sha256(json.dumps([digest, sorted(parts.digests.items())]).encode()).hexdigest()
    kept = summary_of(progress.looks, task.training.early_stopping)
    record: dict[str, Any] = {
        "task_digest": task.digest(),
        "digest": digest,
        "steps": progress.step,
        # Within the record, so that a run which adopts the version knows it too.
        "seconds": time.perf_counter() - started,
        "steady_samples_per_second": speed,
        "rows": task.train_rows * (kept["best_epoch"] if kept else task.training.epochs),
        "early_stopping": kept,
        "parameters": sum(t.numel() for t in network.values()) + sum(model.tables.rows.values()) * model.tables.dim,
        "table_bytes": _table_bytes(trainer),
        "sharded_tables": sorted(layout.sharded),
        "train_log_loss": progress.loss_sum / progress.weight_sum if progress.weight_sum else None,
        "loss_curve": progress.curve,
        "phases": progress.phases,
        "log_odds": progress.log_odds,
        "expired": task.expired.counts if task.expired is not None else {},
        "moved": moved,
        "skipped_steps": trainer.loss_scale.skipped,
        "copied": trainer.copied.record() if trainer.copied is not None else None,
    }
    if collective.rank == 0:
        with store.publish(task.version, record, parts.digests) as folder:
            Structure.of(task).write(folder)
            if (expired := expired_ids(task)) is not None:
                expired.write(folder)
            write_tensors(folder / NETWORK, network)
            write_tensors(folder / TABLES, whole)
            write_tensors(folder / OPTIMIZER, trainer.optimizer_state())
            parts.move_into(folder)
            if isinstance(model, AutoFT):
                _save_frozen(model, task, folder)
            if task.export_snapshot:
                export_snapshot(task, trainer, folder)
        CheckpointFolder(Path(task.checkpoints), task.digest()).remove()
    elif task.export_snapshot:
        export_snapshot(task, trainer, None)
    collective.barrier()
    return record


def _table_bytes(trainer: Trainer) -> int:
    """Bytes of tables and their optimiser state on this rank."""
    held = [trainer.model.tables.weight, *trainer.sparse.state.values()]
    held += [twin.weight for twin in trainer.model.twin_tables()]
    return sum(tensor.numel() * tensor.element_size() for tensor in held)


def _save_frozen(model: AutoFT, task: LevelTask, folder: Path) -> None:
    """What the frozen twin needs to be made again, so that a version scores without its parents.

    Its tables are those of CPM, and what the vocabularies gained since follows from the seed: nothing is stored twice.
    """
    write_tensors(folder / FROZEN_NETWORK, model.frozen.network_state())
    link_tables(Path(task.start.artifact or ""), TABLES if task.start.kind == "warm" else FROZEN_TABLES, folder)
