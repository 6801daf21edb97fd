"""Batches of one rank, in step with the other ranks, read ahead of the training that takes them.

Two threads work ahead: one decodes the next buffer of each lane, one cuts and joins what a step takes. A buffer is a row
group, or a part of one that is larger than `BUFFER_ROWS`. A row's place depends on the plan alone: row groups are shuffled
across the files of a lane, rows within their buffer, by permutations seeded by plan, lane, file, row group and buffer; so a
reader that starts at step t gives what an unbroken one gives from there.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

import numpy as np
import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair

from ecdctr.data.batch import Batch
from ecdctr.data.footers import check_files
from ecdctr.data.row_groups import RowGroupReader
from ecdctr.data.rows import Array, Rows, columns_of, to_batch, to_rows
from ecdctr.data.shard_plan import FileRows, LanePlan, owned_lanes
from ecdctr.features import FeatureSet

AHEAD = 4
"""Batches that wait for the trainer; buffers bring the rest of the slack."""


def iterate(
    plan: LanePlan,
    rank: int,
    size: int,
    features: FeatureSet,
    global_batch: int,
    *,
    start_step: int = 0,
    names: bool = False,
    finish: Callable[[Batch], Batch] = lambda batch: batch,
    opening: dict[str, float] | None = None,
) -> Iterator[Batch]:
    """This rank's batches of one pass over all rows; on every rank equally many, some perhaps empty.

    Args:
        plan: The files and their order, the same on all ranks.
        rank: This rank.
        size: How many ranks share the lanes.
        features: Columns to read.
        global_batch: Rows of a step over all ranks.
        start_step: First step to give; files that lie wholly before it are not opened.
        names: Fill `event_id` and `user`.
        finish: What else is done to a batch before it is handed out, in the thread that works ahead.
        opening: Gets the seconds of looking at the files' footers and of opening them, unless it has some already.

    Yields:
        The batches of steps `start_step` to `plan.steps(global_batch) - 1`.

    Raises:
        InputError: A file is missing, corrupt or not what the plan says; before the first batch, except for a corrupt
            page, which is only seen when it is read.
    """
    steps = range(start_step, plan.steps(global_batch))
    if not steps:
        return
    began = time.perf_counter()
    first = plan.rows_of(start_step, global_batch)
    own = owned_lanes(len(plan.lanes), rank, size)
    groups = check_files([file for lane in own for file in plan.lanes[lane]], columns_of(features, names))
    looked = time.perf_counter()
    decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")
    lanes: list[LaneReader] = []
    try:
        for lane in own:
            lanes.append(LaneReader(plan, lane, features, names, first[lane][0], decoder, groups))
        if opening is not None and "footers" not in opening:
            opening |= {"footers": looked - began, "open_files": time.perf_counter() - looked}

        def assemble() -> Iterator[Batch]:
            for step in steps:
                ranges = plan.rows_of(step, global_batch)
                parts = [part for lane in lanes for part in lane.take(ranges[lane.lane][1] - ranges[lane.lane][0])]
                yield finish(to_batch(parts, features, names))

        yield from _ahead(assemble)
    finally:
        for reader in lanes:
            reader.close()
        decoder.shutdown(cancel_futures=True)


class LaneReader:
    """Rows of one lane in the plan's order, from some row on.

    Args:
        plan: The plan.
        lane: Which of its lanes.
        features: Columns to read.
        names: Read event and user ids too.
        skip: Rows of the lane to leave out at the start.
        decoder: Reads the next buffer while this one is used.
        groups: Rows of each row group of each file, by path.
    """

    def __init__(
        self,
        plan: LanePlan,
        lane: int,
        features: FeatureSet,
        names: bool,
        skip: int,
        decoder: ThreadPoolExecutor,
        groups: Mapping[str, Sequence[int]],
    ) -> None:
        self.lane = lane
        self._plan, self._features, self._names, self._decoder = plan, features, names, decoder
        self._left, self._skip = _from_row(reading_order(plan, lane, groups), skip)
        wanted = [(part.file, part.group) for part in self._left]
        self._reader = RowGroupReader(wanted, features, names) if wanted else None
        self._buffers = iter(self._reader) if self._reader else None
        self._next: Future[Rows | None] | None = None
        self._rows: Rows | None = None
        self._at = 0
        if self._buffers is not None:
            self._next = decoder.submit(self._load)

    def take(self, rows: int) -> list[Rows]:
        """The next rows, in one part or several; the plan never asks for more than there are."""
        parts: list[Rows] = []
        while rows > 0:
            if self._rows is None or self._at == len(self._rows):
                self._advance()
                continue
            stop = min(self._at + rows, len(self._rows))
            parts.append(self._rows.slice(self._at, stop))
            rows -= stop - self._at
            self._at = stop
        return parts

    def close(self) -> None:
        """Let go of the files; waits for a buffer that is being read."""
        if self._next is not None and not self._next.cancel():
            self._next.exception()
        if self._buffers is not None:
            self._buffers.close()
        if self._reader is not None:
            self._reader.close()

    def _advance(self) -> None:
        assert self._next is not None
        # Free the old buffer before the next but one is read.
        self._rows = None
        loaded = self._next.result()
        if loaded is None:
            raise RuntimeError(f"lane {self.lane} ended before its plan")
        self._next = self._decoder.submit(self._load)
        self._at, self._skip = min(self._skip, len(loaded)), max(self._skip - len(loaded), 0)
        self._rows = loaded

    def _load(self) -> Rows | None:
        assert self._buffers is not None
        found = next(self._buffers, None)
        if found is None:
            return None
        place, buffer, table = found
        part = self._left[place]
        order: Array | None = None
        if self._plan.shuffle:
            # The first buffer of a row group, often the only one, has the seed of the row group.
            seed = (self._plan.seed, self.lane, part.number, part.group, *((buffer,) if buffer else ()))
            order = np.random.default_rng(seed).permutation(table.num_rows)
        return to_rows(table, part.file, self._features, self._names, order)


@dataclass(frozen=True)
class Part:
    """A row group that a lane reads.

    Attributes:
        file: Its file.
        number: Place of the file in the lane.
        group: Which row group of the file.
        rows: Its rows.
    """

    file: FileRows
    number: int
    group: int
    rows: int


def reading_order(plan: LanePlan, lane: int, groups: Mapping[str, Sequence[int]]) -> list[Part]:
    """Row groups of a lane as they are read; where any file has several, shuffled across all files of the lane.

    Args:
        plan: The plan.
        lane: Which of its lanes.
        groups: Rows of each row group of each file, by path.
    """
    parts = [
        Part(file, number, group, groups[file.path][group])
        for number, file in enumerate(plan.lanes[lane])
        for group in (range(len(groups[file.path])) if file.groups is None else file.groups)
        if groups[file.path][group]
    ]
    # Files of one row group each lie in shuffled order already.
    if plan.shuffle and len({part.number for part in parts}) < len(parts):
        Random(f"row groups {plan.seed} {lane}").shuffle(parts)  # noqa: S311 - an order, not a secret
    return parts


def _from_row(parts: list[Part], skip: int) -> tuple[list[Part], int]:
    """Row groups from the one that holds row `skip` on, and the rows to skip in the first of them."""
    first = 0
    while first < len(parts) and skip >= parts[first].rows:
        skip -= parts[first].rows
        first += 1
    return parts[first:], skip


def _ahead(source: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
    """Run an iterator in a thread of its own, a few batches ahead; its error is raised here."""
    waiting: queue.Queue[Batch | BaseException | None] = queue.Queue(AHEAD)
    enough = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not enough.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for batch in source():
                put(batch)
                if enough.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="assemble", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        enough.set()
        thread.join()
