"""Train one level on one rank: pinned inputs in, a published version out."""

import hashlib
import json
import logging
import resource
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch

from ecdctr.artifacts.checkpoints import CheckpointFolder
from ecdctr.artifacts.parameters import parameter_digest
from ecdctr.artifacts.store import ArtifactStore, recorded
from ecdctr.artifacts.tensor_files import write_tensors
from ecdctr.data.batch import Batch
from ecdctr.data.footers import by_row_groups
from ecdctr.data.reader import iterate
from ecdctr.data.shard_plan import FileRows, LanePlan, join_plans, plan_lanes
from ecdctr.distributed.collective import Collective
from ecdctr.distributed.tasks import Signals
from ecdctr.exceptions import ConfigError, IntegrityError
from ecdctr.features.domains import DOMAINS
from ecdctr.models.base import CTRModel
from ecdctr.models.full import FullModel
from ecdctr.models.joint import JointModel
from ecdctr.models.registry import build
from ecdctr.nn.stored_rows import StoredRows
from ecdctr.training.optimizers import OPTIMIZERS
from ecdctr.training.pace import Pace
from ecdctr.training.predict import write_predictions
from ecdctr.training.prior import click_log_odds
from ecdctr.training.rates import Copied
from ecdctr.training.snapshot_export import export_snapshot
from ecdctr.training.table_plan import TableSize, plan_tables
from ecdctr.training.task import Files, LevelTask
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
from ecdctr.transfer.fine_tuning import fine_tune, start_from
from ecdctr.transfer.frozen_tower import FrozenTower
from ecdctr.transfer.policy_statistics import PolicyStatistics
from ecdctr.transfer.snapshots import HistoricalEmbeddings, SnapshotFiles
from ecdctr.transfer.warmup import warm_batch_norm

logger = logging.getLogger(__name__)

EVEN = 0.02
"""Lanes that differ by more are dealt anew by row groups, where files have several."""


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
    store = ArtifactStore(Path(task.store))
    record = _adopt(collective, store, task)
    model = _build(task, collective)
    if record is None:
        trainer, moved = _prepare(model, collective, task)
        pace = Pace()
        progress = _train(trainer, task, collective, signals, pace)
        speed = pace.rate(task.train_rows * task.training.epochs / max(progress.steps, 1))
        record = _publish(trainer, progress, store, task, collective, moved, started, speed)
    else:
        load_version(model, store.path(task.version))
    if task.score is not None and task.score_dir is not None:
        since = time.perf_counter()
        batches = _batches(task, collective, [task.score], epoch=0, shuffle=False, batch_size=8192, names=True)
        if isinstance(model, AutoFT):
            statistics = PolicyStatistics(model)
            write_predictions(model, batches, Path(task.score_dir), collective, statistics.add)
            record["policies"] = statistics.gather(collective)
        else:
            write_predictions(model, batches, Path(task.score_dir), collective)
        record["score_seconds"] = time.perf_counter() - since
    # Linux counts the peak resident set in KiB.
    record["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return record


def _adopt(collective: Collective, store: ArtifactStore, task: LevelTask) -> dict[str, Any] | None:
    record = store.record(task.version)
    whole = record is not None and record["task_digest"] == task.digest()
    return record if not collective.any(not whole) else None


def _build(task: LevelTask, collective: Collective) -> CTRModel:
    features = task.feature_set()
    options = task.options | ({"history_dim": task.history.dim} if task.history else {})
    model = build(task.backbone, features=features, rows=task.rows, seed=task.seed, **options)
    if len(task.train) > 1 and not isinstance(model, JointModel):
        raise ConfigError(
            f"{task.backbone} has one head and cannot train on {len(task.train)} domains", hint="see docs/baselines.md"
        )
    if task.fine_tune is not None:
        assert isinstance(model, FullModel)
        # A version that goes on loads the count of the one that started from CPM.
        steps = _plan(task, task.train, 0, False).steps(task.training.batch_size) * task.training.epochs
        model = fine_tune(model, task.fine_tune.kind, task.fine_tune.settings, task.seed, steps)
    if task.tower is not None and isinstance(model, FullModel):
        twin = build(task.backbone, features=features.of_source(), rows=task.rows, seed=task.seed, **options)
        assert isinstance(twin, FullModel)
        model = FrozenTower(model, twin)
    model.attach(collective)
    _deal_tables(model, task, collective)
    return model


def _deal_tables(model: CTRModel, task: LevelTask, collective: Collective) -> None:
    """Shard the tables that the settings want sharded, before they take memory."""
    tables, twins = model.tables, model.twin_tables()
    state = OPTIMIZERS[task.training.sparse_optimizer].floats(tables.dim)
    sizes = {
        name: [TableSize(rows, tables.dim + state), *(TableSize(twin.rows[name], twin.dim) for twin in twins)]
        for name, rows in tables.rows.items()
    }
    sharded = plan_tables(task.training.tables, sizes, collective.size)
    if sharded:
        for each in (tables, *twins):
            each.shard(sharded, collective)
        logger.info("%s: rows of %s are dealt to %d ranks", task.version, ", ".join(sorted(sharded)), collective.size)


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
    return trainer, moved


def _plan(task: LevelTask, sources: Sequence[Files], epoch: int, shuffle: bool) -> LanePlan:
    def deal(parts: list[FileRows]) -> LanePlan:
        return plan_lanes(parts, lanes=task.lanes, seed=task.seed + epoch, shuffle=shuffle)

    def plan(source: Files) -> LanePlan:
        domain = DOMAINS.index(source.domain)
        parts = [FileRows(path, rows, domain, constants=source.constants) for path, rows in source.files]
        dealt = deal(parts)
        return deal(by_row_groups(parts)) if dealt.imbalance > EVEN else dealt

    return join_plans([plan(source) for source in sources])


def _batches(
    task: LevelTask,
    collective: Collective,
    sources: Sequence[Files],
    *,
    epoch: int,
    shuffle: bool,
    batch_size: int,
    start_step: int = 0,
    names: bool = False,
) -> Generator[Batch, None, None]:
    batches = iterate(
        _plan(task, sources, epoch, shuffle), collective.rank, collective.size, task.feature_set(), batch_size,
        start_step=start_step, names=names,
    )  # fmt: skip
    if any(source.weight != 1.0 for source in sources):
        batches = _weighted(batches, {DOMAINS.index(source.domain): source.weight for source in sources})
    if task.history is None:
        yield from batches
        return
    snapshots = [SnapshotFiles(snapshot.until_day, Path(snapshot.folder)) for snapshot in task.history.snapshots]
    shuffle_seed = task.seed if task.history.shuffled else None
    history = HistoricalEmbeddings(
        snapshots, task.history.count, task.history.lookup, shuffle_seed, entities=task.history.entities,
        unit_length=task.history.unit_length,
    )  # fmt: skip
    for batch in batches:
        yield history.attach(batch)


def _weighted(batches: Iterator[Batch], weights: dict[int, float]) -> Iterator[Batch]:
    by_domain = torch.tensor([weights.get(domain, 1.0) for domain in range(len(DOMAINS))])
    for batch in batches:
        assert batch.domain is not None
        batch.weight = batch.weight * by_domain[batch.domain]
        yield batch


def _train(trainer: Trainer, task: LevelTask, collective: Collective, signals: Signals, pace: Pace) -> Progress:
    """All epochs, from the newest checkpoint if there is one."""
    checkpoints = CheckpointFolder(Path(task.checkpoints), task.digest())
    per_epoch = _plan(task, task.train, 0, False).steps(task.training.batch_size)
    step = _restore(trainer, checkpoints, collective)
    if step:
        logger.info("%s goes on from step %d", task.version, step)
    if task.warmup_batches and step == 0:
        _warm_up(trainer, task, collective)
    since = time.perf_counter()

    def batches() -> Iterator[Batch]:
        for epoch in range(task.training.epochs):
            skipped = min(max(trainer.progress.step - epoch * per_epoch, 0), per_epoch)
            if skipped < per_epoch:
                yield from _batches(
                    task, collective, task.train, epoch=epoch, shuffle=task.training.shuffle,
                    batch_size=task.training.batch_size, start_step=skipped,
                )  # fmt: skip

    def save(progress: Progress) -> None:
        digests: list[str] = []
        if trainer.model.tables.layout.sharded:
            if collective.rank == 0:
                checkpoints.stage(progress.step)
            collective.barrier()
            own = trainer.shard_state()
            digests = collective.all_gather_json(
                checkpoints.save_part(progress.step, collective.rank, collective.size, own)
            )
        if collective.rank == 0:
            checkpoints.save(progress.step, *trainer.state(), tuple(digests))
        collective.barrier()

    def tell(progress: Progress) -> None:
        pace.tick()
        elapsed = max(time.perf_counter() - since, 1e-9)
        done = (progress.step - step) * task.training.batch_size
        signals.report(
            {
                "step": progress.step,
                "steps": progress.steps,
                "loss": progress.loss,
                "samples_per_second": done / elapsed,
            }
        )

    return trainer.fit(
        batches(), per_epoch * task.training.epochs, stop_requested=signals.stop_requested, on_step=tell, save=save
    )


def _warm_up(trainer: Trainer, task: LevelTask, collective: Collective) -> None:
    """Let re-initialised normalisation see the first training batches before the first step."""
    shuffle, size = task.training.shuffle, task.training.batch_size
    with closing(_batches(task, collective, task.train, epoch=0, shuffle=shuffle, batch_size=size)) as batches:
        warm_batch_norm(trainer.model, islice(batches, task.warmup_batches), collective, task.seed)


def _restore(trainer: Trainer, checkpoints: CheckpointFolder, collective: Collective) -> int:
    """Go back to the newest checkpoint that all ranks find whole; returns its step, 0 where there is none."""
    whole = collective.all_gather_json(checkpoints.whole(collective.rank, collective.size))
    step: int = max(set.intersection(*map(set, whole)), default=0)
    if step:
        tensors, parts, record = checkpoints.load(step)
        trainer.restore(step, tensors | {name: StoredRows(rows) for name, rows in parts.items()}, record)
    return step


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
    parts = Parts(store.root, task.version, collective)
    parts.write(trainer)
    if parts.digests:
        digest = hashlib.sha256(json.dumps([digest, sorted(parts.digests.items())]).encode()).hexdigest()
    record: dict[str, Any] = {
        "task_digest": task.digest(),
        "digest": digest,
        "steps": progress.step,
        # Within the record, so that a run which adopts the version knows it too.
        "seconds": time.perf_counter() - started,
        "steady_samples_per_second": speed,
        "rows": task.train_rows * task.training.epochs,
        "parameters": sum(t.numel() for t in network.values()) + sum(model.tables.rows.values()) * model.tables.dim,
        "table_bytes": _table_bytes(trainer),
        "sharded_tables": sorted(layout.sharded),
        "train_log_loss": progress.loss_sum / progress.weight_sum if progress.weight_sum else None,
        "loss_curve": progress.curve,
        "phases": progress.phases,
        "log_odds": progress.log_odds,
        "moved": moved,
        "copied": trainer.copied.record() if trainer.copied is not None else None,
    }
    if collective.rank == 0:
        with store.publish(task.version, record, parts.digests) as folder:
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
