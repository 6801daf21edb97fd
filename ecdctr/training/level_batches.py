"""Which rows a level takes in which step, and the batches of one rank."""

from collections.abc import Generator, Sequence
from pathlib import Path

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch

from ecdctr.data.batch import Batch
from ecdctr.data.footers import by_row_groups
from ecdctr.data.reader import iterate
from ecdctr.data.shard_plan import FileRows, LanePlan, join_plans, plan_lanes
from ecdctr.distributed.collective import Collective
from ecdctr.features.domains import DOMAINS
from ecdctr.training.expiry import Expired
from ecdctr.training.structure import historical_embeddings
from ecdctr.training.task import Files, LevelTask, ScoringTask

EVEN = 0.02
"""Lanes that differ by more are dealt anew by row groups, where files have several."""


def plan_rows(task: LevelTask | ScoringTask, sources: Sequence[Files], epoch: int, shuffle: bool) -> LanePlan:
    """The rows of one pass over some files, lane by lane; of several domains every step takes the same share."""

    def deal(parts: list[FileRows]) -> LanePlan:
        return plan_lanes(parts, lanes=task.lanes, seed=task.seed + epoch, shuffle=shuffle)

    def plan(source: Files) -> LanePlan:
        domain = DOMAINS.index(source.domain)
        parts = [FileRows(path, rows, domain, constants=source.constants) for path, rows in source.files]
        dealt = deal(parts)
        return deal(by_row_groups(parts)) if dealt.imbalance > EVEN else dealt

    return join_plans([plan(source) for source in sources])


def level_batches(
    task: LevelTask,
    collective: Collective,
    sources: Sequence[Files],
    *,
    epoch: int,
    shuffle: bool,
    batch_size: int,
    start_step: int = 0,
    names: bool = False,
    opening: dict[str, float] | None = None,
) -> Generator[Batch, None, None]:
    """This rank's batches of one pass, with weights of domains and historical embeddings, expired ids as their buckets.

    Args:
        task: The level.
        collective: The ranks that share the rows.
        sources: What to read, of the task's tables.
        epoch: Number of the pass, which the order depends on.
        shuffle: Whether rows are shuffled.
        batch_size: Rows of a step over all ranks.
        start_step: First step to give.
        names: Fill `event_id` and `user`.
        opening: Gets the seconds of opening the files, by part; see `iterate`.
    """
    by_domain = torch.ones(len(DOMAINS))
    for source in sources:
        by_domain[DOMAINS.index(source.domain)] = source.weight
    weighted = any(source.weight != 1.0 for source in sources)
    history = historical_embeddings(task.history, task.seed) if task.history is not None else None
    expired = expired_ids(task)

    def finish(batch: Batch) -> Batch:
        if weighted:
            assert batch.domain is not None
            batch.weight = batch.weight * by_domain[batch.domain]
        batch = batch if history is None else history.attach(batch)
        # After the historical vectors, which stay those of the ids.
        return batch if expired is None else expired.hide(batch)

    yield from iterate(
        plan_rows(task, sources, epoch, shuffle), collective.rank, collective.size, task.feature_set(), batch_size,
        start_step=start_step, names=names, finish=finish, opening=opening,
    )  # fmt: skip


def expired_ids(task: LevelTask) -> Expired | None:
    """What of the level's ids has expired; None: nothing."""
    if task.expired is None:
        return None
    return Expired.listed(Path(task.expired.folder), task.expired.counts, task.rows, task.feature_set())
