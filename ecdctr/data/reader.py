"""Batches of one rank, in step with the other ranks, read ahead of the training that takes them.

Two threads work ahead: one decodes the next row group of each lane, one cuts and joins what a step takes. A row's place
depends on the plan alone: rows are shuffled within their row group by a permutation seeded by plan, lane, file and row
group, so a reader that starts at step t gives what an unbroken one gives from there.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch

from ecdctr.data.batch import Batch
from ecdctr.data.footers import check_files
from ecdctr.data.row_groups import Array, RowGroupReader, Rows, columns_of, to_rows
from ecdctr.data.shard_plan import FileRows, LanePlan, owned_lanes
from ecdctr.features import FeatureSet

AHEAD = 4
"""Batches that wait for the trainer; row groups bring the rest of the slack."""


def iterate(
    plan: LanePlan,
    rank: int,
    size: int,
    features: FeatureSet,
    global_batch: int,
    *,
    start_step: int = 0,
    names: bool = False,
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

    Yields:
        The batches of steps `start_step` to `plan.steps(global_batch) - 1`.

    Raises:
        InputError: A file is missing, corrupt or not what the plan says; before the first batch, except for a corrupt
            page, which is only seen when it is read.
    """
    steps = range(start_step, plan.steps(global_batch))
    if not steps:
        return
    first = plan.rows_of(start_step, global_batch)
    own = owned_lanes(len(plan.lanes), rank, size)
    check_files([file for lane in own for file in plan.lanes[lane]], columns_of(features, names))
    decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")
    lanes: list[LaneReader] = []
    try:
        for lane in own:
            lanes.append(LaneReader(plan, lane, features, names, first[lane][0], decoder))

        def assemble() -> Iterator[Batch]:
            for step in steps:
                ranges = plan.rows_of(step, global_batch)
                parts = [part for lane in lanes for part in lane.take(ranges[lane.lane][1] - ranges[lane.lane][0])]
                yield _join(parts, features, names)

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
        decoder: Reads the next row group while this one is used.
    """

    def __init__(
        self, plan: LanePlan, lane: int, features: FeatureSet, names: bool, skip: int, decoder: ThreadPoolExecutor
    ) -> None:
        self.lane = lane
        self._plan, self._features, self._names, self._decoder = plan, features, names, decoder
        files, self._skip = _from_row(plan.lanes[lane], skip)
        self._places = {file.path: (place, file) for place, file in enumerate(plan.lanes[lane])}
        self._reader = RowGroupReader(files, features, names) if files else None
        self._groups = iter(self._reader) if self._reader else None
        self._next: Future[Rows | None] | None = None
        self._rows: Rows | None = None
        self._at = 0
        if self._groups is not None:
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
        """Let go of the files; waits for a row group that is being read."""
        if self._next is not None and not self._next.cancel():
            self._next.exception()
        if self._reader is not None:
            self._reader.close()

    def _advance(self) -> None:
        assert self._next is not None
        # Free the old row group before the next but one is read.
        self._rows = None
        loaded = self._next.result()
        if loaded is None:
            raise RuntimeError(f"lane {self.lane} ended before its plan")
        self._next = self._decoder.submit(self._load)
        self._at, self._skip = min(self._skip, len(loaded)), max(self._skip - len(loaded), 0)
        self._rows = loaded

    def _load(self) -> Rows | None:
        assert self._groups is not None
        found = next(self._groups, None)
        if found is None:
            return None
        path, group, table = found
        number, file = self._places[path]
        order: Array | None = None
        if self._plan.shuffle:
            seed = (self._plan.seed, self.lane, number, group)
            order = np.random.default_rng(seed).permutation(table.num_rows)
        return to_rows(table, file, self._features, self._names, order)


def _from_row(files: Sequence[FileRows], skip: int) -> tuple[list[FileRows], int]:
    """Files from the one that holds row `skip` on, without empty ones, and the rows to skip in the first of them."""
    left = [file for file in files if file.rows]
    while left and skip >= left[0].rows:
        skip -= left.pop(0).rows
    return left, skip


def _join(parts: list[Rows], features: FeatureSet, names: bool) -> Batch:
    if not parts:
        parts = [_no_rows(features, names)]

    def joined(arrays: list[Array]) -> torch.Tensor:
        # Always a copy: a batch must not keep its row group alive, nor change it.
        return torch.from_numpy(np.concatenate(arrays))

    def listed(arrays: list[Array | None]) -> list[str] | None:
        return [name for array in arrays if array is not None for name in array.tolist()] if names else None

    return Batch(
        ids=joined([part.ids for part in parts]),
        numbers=joined([part.numbers for part in parts]),
        sequences=_sequences([part.sequences for part in parts], features),
        label=joined([part.label for part in parts]),
        weight=joined([part.weight for part in parts]),
        day=joined([part.day for part in parts]),
        domain=joined([part.domain for part in parts]),
        event_id=listed([part.event_id for part in parts]),
        user=listed([part.user for part in parts]),
    )


def _sequences(parts: Sequence[Mapping[str, Array]], features: FeatureSet) -> dict[str, torch.Tensor]:
    """Sequences `(B, T)`, each list with its attributes cut where the longest of them ends in these rows."""
    cut: dict[str, torch.Tensor] = {}
    for name in features.list_fields:
        columns = [name, *features.attributes(name)]
        length = max(_length(part[column]) for part in parts for column in columns)
        for column in columns:
            # A copy: a batch must not keep its row group alive.
            cut[column] = torch.from_numpy(np.concatenate([part[column][:, :length] for part in parts]))
    return {name: cut[name] for name in features.sequence_fields}


def _length(sequence: Array) -> int:
    """Places `(B, T)` up to the last one that is no padding in some row; at least one."""
    rows, length = sequence.shape
    # From the end, since one long row is enough.
    while length > 1 and rows and not sequence[:, length - 1].any():
        length -= 1
    return length if rows else 1


def _no_rows(features: FeatureSet, names: bool) -> Rows:
    empty = np.empty(0, np.object_) if names else None
    return Rows(
        ids=np.empty((0, len(features.id_fields)), np.int64),
        numbers=np.empty((0, len(features.number_fields)), np.float32),
        sequences={name: np.empty((0, length), np.int64) for name, length in features.sequence_fields.items()},
        label=np.empty(0, np.float32),
        weight=np.empty(0, np.float32),
        day=np.empty(0, np.int64),
        domain=np.empty(0, np.int64),
        event_id=empty,
        user=empty,
    )


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
