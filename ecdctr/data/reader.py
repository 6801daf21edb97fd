"""Petastorm over the exact files of a plan, as one stream of batches per rank."""

import queue
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from petastorm import make_batch_reader
from torch import Tensor

from ecdctr.data.batch import Batch
from ecdctr.data.shard_plan import FileRows, LanePlan, owned_lanes
from ecdctr.exceptions import InputError
from ecdctr.features import FeatureSet

PREFETCH_BATCHES = 8
QUEUED_ROW_GROUPS = 2
OTHER_COLUMNS = ("label", "weight", "day")
NAME_COLUMNS = ("event_id", "user")
PICKLED_METADATA = (b"dataset-toolkit.unischema.v1", b"dataset-toolkit.num_row_groups_per_file.v1")


@dataclass(frozen=True)
class _Place:
    """A file of a lane, and the lane's rows before it."""

    file: FileRows
    lane: int
    start: int
    number: int


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
    """This rank's local batches of one pass, one for each step of the plan; some may be empty.

    Reading and decoding run in threads of their own, a bounded number of batches ahead.

    Args:
        plan: Files of all lanes.
        rank: Number of this rank.
        size: Number of ranks.
        features: What the columns are.
        global_batch: Rows of a step over all ranks.
        start_step: Steps that were taken before; files that they used up are not opened.
        names: Whether event and user ids are wanted.

    Raises:
        InputError: A file that is missing, damaged, of another length than its table says, or that carries pickled
            metadata; named before the first batch.
    """
    steps = plan.steps(global_batch)
    lanes = owned_lanes(len(plan.lanes), rank, size)
    ranges = [plan.rows_of(step, global_batch) for step in range(start_step, steps)]
    if not ranges:
        return
    offsets = {lane: ranges[0][lane][0] for lane in lanes}
    places = [place for place in _reading_order(plan, lanes) if place.start + place.file.rows > offsets[place.lane]]
    check_files([place.file for place in places])
    rows = _Lanes(_row_groups(places, features, names), plan, offsets, features, names)
    yield from _ahead(Batch.concat([rows.take(lane, step[lane][1] - step[lane][0]) for lane in lanes]) for step in ranges)


def check_files(files: Sequence[FileRows]) -> None:
    """Read every footer before the first step.

    Raises:
        InputError: Names the file and what is wrong with it.
    """
    for file in files:
        try:
            metadata = pq.read_metadata(file.path)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{file.path} cannot be read as Parquet: {error}", hint="restore the file, or prepare its day again"
            ) from error
        if any(key in (metadata.metadata or {}) for key in PICKLED_METADATA):
            raise InputError(
                f"{file.path} carries pickled schema metadata, which would be executed", hint="write it with Spark again"
            )
        if metadata.num_rows != file.rows:
            raise InputError(f"{file.path} has {metadata.num_rows} rows, its table says {file.rows}")


def _reading_order(plan: LanePlan, lanes: Sequence[int]) -> list[_Place]:
    """Files of all lanes in the order in which the steps need them."""
    places = []
    for lane in lanes:
        start = 0
        for number, file in enumerate(plan.lanes[lane]):
            places.append(_Place(file, lane, start, number))
            start += file.rows
    totals = plan.lane_rows
    return sorted(
        (place for place in places if place.file.rows), key=lambda place: (place.start / totals[place.lane], place.lane)
    )


def _row_groups(places: Sequence[_Place], features: FeatureSet, names: bool) -> Iterator[tuple[_Place, int, Any]]:
    """Decoded row groups in the order of `places`, each with the rows of its file before it."""
    if not places:
        return
    _silence_old_interface()
    columns = [*features.columns, *OTHER_COLUMNS, *(NAME_COLUMNS if names else ())]
    # One worker and no shuffling by Petastorm: it then keeps the order of the list, which is the plan's.
    reader = make_batch_reader(
        [f"file://{place.file.path}" for place in places],
        schema_fields=[f"^{re.escape(column)}$" for column in columns],
        reader_pool_type="thread",
        workers_count=1,
        results_queue_size=QUEUED_ROW_GROUPS,
        shuffle_row_groups=False,
        num_epochs=1,
        convert_early_to_numpy=True,
    )
    try:
        at, before = 0, 0
        for group in reader:
            yield places[at], before, group
            before += len(group.label)
            if before == places[at].file.rows:
                at, before = at + 1, 0
    finally:
        reader.stop()
        reader.join()


class _Lanes:
    """Rows of each lane, taken from one stream of row groups."""

    def __init__(
        self, groups: Iterator[Any], plan: LanePlan, offsets: dict[int, int], features: FeatureSet, names: bool
    ) -> None:
        self.groups = groups
        self.plan = plan
        self.features = features
        self.skip = dict(offsets)
        self.held: dict[int, list[Batch]] = {lane: [] for lane in offsets}
        self.empty = _empty(features, names)

    def take(self, lane: int, rows: int) -> Batch:
        """The next rows of a lane."""
        parts = [self.empty]
        while rows > 0:
            if not self.held[lane]:
                self._read_group()
                continue
            first = self.held[lane].pop(0)
            if len(first) > rows:
                self.held[lane].insert(0, first.slice(rows, len(first)))
                first = first.slice(0, rows)
            parts.append(first)
            rows -= len(first)
        return Batch.concat(parts[1:] or parts)

    def _read_group(self) -> None:
        place, before, group = next(self.groups)
        batch = _to_batch(group._asdict(), self.features)
        if self.plan.shuffle:
            generator = np.random.default_rng([self.plan.seed, place.lane, place.number, before])
            batch = batch.take(torch.from_numpy(generator.permutation(len(batch))))
        skip = min(max(self.skip[place.lane] - place.start - before, 0), len(batch))
        if skip < len(batch):
            self.held[place.lane].append(batch.slice(skip, len(batch)))


def _to_batch(columns: dict[str, Any], features: FeatureSet) -> Batch:
    rows = len(columns["label"])

    def matrix(names: Sequence[str], dtype: Any) -> Tensor:
        out = np.empty((rows, len(names)), dtype=dtype)
        for at, name in enumerate(names):
            out[:, at] = columns[name]
        return torch.from_numpy(out)

    return Batch(
        ids=matrix(features.id_fields, np.int64),
        numbers=matrix(features.number_fields, np.float32),
        sequences={name: torch.from_numpy(np.ascontiguousarray(columns[name], np.int64)) for name in features.sequence_fields},
        label=torch.from_numpy(columns["label"].astype(np.float32)),
        weight=torch.from_numpy(columns["weight"].astype(np.float32)),
        day=torch.from_numpy(columns["day"].astype(np.int64)),
        event_id=columns["event_id"].tolist() if "event_id" in columns else None,
        user=columns["user"].tolist() if "user" in columns else None,
    )


def _empty(features: FeatureSet, names: bool) -> Batch:
    return Batch(
        ids=torch.zeros(0, len(features.id_fields), dtype=torch.int64),
        numbers=torch.zeros(0, len(features.number_fields)),
        sequences={name: torch.zeros(0, length, dtype=torch.int64) for name, length in features.sequence_fields.items()},
        label=torch.zeros(0),
        weight=torch.zeros(0),
        day=torch.zeros(0, dtype=torch.int64),
        event_id=[] if names else None,
        user=[] if names else None,
    )


class _End:
    """What the reading thread leaves behind: nothing, or the error that ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, made by a thread up to `PREFETCH_BATCHES` ahead."""
    waiting: queue.Queue[Batch | _End] = queue.Queue(PREFETCH_BATCHES)
    stopped = threading.Event()

    def put(item: Batch | _End) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for batch in batches:
                if not put(batch):
                    return
            put(_End())
        except BaseException as error:
            put(_End(error))
        finally:
            batches.close()  # type: ignore[attr-defined]

    thread = threading.Thread(target=read, name="batches", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()


def _silence_old_interface() -> None:
    """Petastorm reads through the dataset interface that the pinned pyarrow still has and warns about."""
    for pattern in (".*ParquetDataset.*", ".*legacy.*", ".*is deprecated as of.*", ".*ParquetDatasetPiece.*"):
        warnings.filterwarnings("ignore", message=pattern, category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*is deprecated as of.*", category=DeprecationWarning)
