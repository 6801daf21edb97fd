"""Row groups of a lane's files as arrays, in the order of the plan, read through Petastorm.

Petastorm keeps the order of a list of files [source: `pyarrow.parquet._make_manifest`, `_split_row_groups_from_footers`]
and of their row groups while it is told not to shuffle. Its stock worker copies every table once and builds sequences row
by row; ours hands over the Arrow table. Its in-thread pool is used: the overlap with training is the caller's, and
nothing is read ahead beyond what the caller asks for.
"""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from petastorm.fs_utils import FilesystemResolver
from petastorm.reader import Reader
from petastorm.workers_pool.dummy_pool import DummyPool
from petastorm.workers_pool.worker_base import WorkerBase

from ecdctr.data.shard_plan import FileRows
from ecdctr.exceptions import InputError
from ecdctr.features import FeatureSet

Array = npt.NDArray[Any]
ALL_AT_ONCE = 1 << 40
HAND_OUT_SECONDS = 0.001


@dataclass
class Rows:
    """Arrays of some rows; the fields are those of `Batch`."""

    ids: Array
    numbers: Array
    sequences: dict[str, Array]
    label: Array
    weight: Array
    day: Array
    domain: Array
    event_id: Array | None
    user: Array | None

    def __len__(self) -> int:
        return len(self.label)

    def slice(self, start: int, stop: int) -> "Rows":
        """Rows `[start, stop)`, without a copy."""
        part = slice(start, stop)
        return Rows(
            self.ids[part],
            self.numbers[part],
            {name: array[part] for name, array in self.sequences.items()},
            self.label[part],
            self.weight[part],
            self.day[part],
            self.domain[part],
            None if self.event_id is None else self.event_id[part],
            None if self.user is None else self.user[part],
        )


class _TableResults:
    """Hands the worker's tables over as they are, beside the name of their file."""

    batched_output = True

    def read_next(self, workers_pool: Any, schema: Any, ngram: Any) -> tuple[str, int, pa.Table]:
        from petastorm.workers_pool import EmptyResultError

        try:
            found: tuple[str, int, pa.Table] = workers_pool.get_results()
        except EmptyResultError:
            raise StopIteration from None
        return found


class _TableWorker(WorkerBase):
    """Reads one row group with the columns asked for; subclassed by each reader with the groups that it wants."""

    wanted: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    """Row groups by file; all of a file that is not named."""

    def __init__(self, worker_id: int, publish_func: Any, args: tuple[Any, ...]) -> None:
        super().__init__(worker_id, publish_func, args)
        self._filesystem, self._schema, self._pieces = args[0], args[2], args[4]

    @staticmethod
    def new_results_queue_reader() -> _TableResults:
        return _TableResults()

    def process(self, piece_index: int, worker_predicate: None, shuffle_row_drop_partition: tuple[int, int]) -> None:
        piece = self._pieces[piece_index]
        if piece.path in self.wanted and piece.row_group not in self.wanted[piece.path]:
            return
        try:
            with self._filesystem.open(piece.path, "rb") as source:
                # One thread: the cores belong to the ranks' own computation.
                table = pq.ParquetFile(source).read_row_group(
                    piece.row_group, columns=list(self._schema.fields), use_threads=False
                )
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{piece.path} cannot be read: {error}", hint="write that day again") from error
        self.publish_func((piece.path, piece.row_group, table))


class RowGroupReader:
    """Row groups of some files, one after the other.

    Opening reads the files' footers; it must not run in two threads at once, since Python's warning filters are the
    process's.

    Args:
        files: Files in reading order, at least one, with absolute local paths.
        features: The columns to read, and their order.
        names: Read event and user ids too.

    Raises:
        InputError: Files that differ in which columns they lack.
    """

    def __init__(self, files: Sequence[FileRows], features: FeatureSet, names: bool) -> None:
        constants = files[0].constants
        other = next((file.path for file in files if file.constants.keys() != constants.keys()), None)
        if other is not None:
            raise InputError(f"{other} and {files[0].path} differ in the columns that are constant: expected the same")
        columns = [name for name in columns_of(features, names) if name not in constants]
        paths = [file.path for file in files]
        wanted = {file.path: file.groups for file in files if file.groups is not None}
        pool = DummyPool()
        # Petastorm hands out as many row groups at a time as there are workers. A pool asked while they are handed out may
        # call itself done too early, or wait for ever; with all of them handed out before the first is asked for it cannot.
        pool.workers_count = ALL_AT_ONCE
        with warnings.catch_warnings():
            # Petastorm opens files through pyarrow's old dataset interface, which says so at every call.
            warnings.filterwarnings("ignore", category=FutureWarning, module="petastorm|pyarrow")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="petastorm|pyarrow")
            self._reader = Reader(
                FilesystemResolver(f"file://{paths[0]}").filesystem(),
                paths,
                # Patterns, each for one whole name.
                schema_fields=[f"^{name}$" for name in columns],
                reader_pool=pool,
                shuffle_row_groups=False,
                num_epochs=1,
                worker_class=type("TableWorker", (_TableWorker,), {"wanted": wanted}),
                is_batched_reader=True,
            )

        while not self._reader.ventilator.completed():
            time.sleep(HAND_OUT_SECONDS)

    def __iter__(self) -> Iterator[tuple[str, int, pa.Table]]:
        return self._reader  # type: ignore[no-any-return]

    def close(self) -> None:
        """End Petastorm's thread."""
        self._reader.stop()
        self._reader.join()


def columns_of(features: FeatureSet, names: bool) -> list[str]:
    """Columns of a samples table that make a batch."""
    return [*features.columns, "label", "weight", "day", *(["event_id", "user"] if names else [])]


def to_rows(table: pa.Table, file: FileRows, features: FeatureSet, names: bool, order: Array | None) -> Rows:
    """Arrays of a row group.

    Args:
        table: The row group.
        file: Its file, whose rows are all of one domain.
        features: Order of ids and numbers; lengths of sequences.
        names: Whether event and user ids are in the table.
        order: Which row comes at which place; None keeps the table's order.

    Raises:
        InputError: A null, an id that is no integer, or a sequence of another length.
    """
    path = file.path

    def column(name: str, dtype: type[np.generic]) -> Array:
        if name in file.constants:
            return np.full(table.num_rows, file.constants[name], dtype)
        array = _whole(table, name, path)
        if dtype is np.int64 and not pa.types.is_integer(array.type):
            raise InputError(f"{path}: column {name} is {array.type}: expected an integer")
        return _ordered(array.to_numpy(zero_copy_only=False), order, dtype)

    rows = table.num_rows
    ids = np.empty((rows, len(features.id_fields)), np.int64)
    for place, name in enumerate(features.id_fields):
        ids[:, place] = column(name, np.int64)
    numbers = np.empty((rows, len(features.number_fields)), np.float32)
    for place, name in enumerate(features.number_fields):
        numbers[:, place] = column(name, np.float32)
    return Rows(
        ids=ids,
        numbers=numbers,
        sequences={
            name: _sequence(table, name, length, path, order) for name, length in features.sequence_fields.items()
        },
        label=column("label", np.float32),
        weight=column("weight", np.float32),
        day=column("day", np.int64),
        domain=np.full(rows, file.domain, np.int64),
        event_id=column("event_id", np.object_) if names else None,
        user=column("user", np.object_) if names else None,
    )


def _whole(table: pa.Table, name: str, path: str) -> Any:
    array = table.column(name).combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    if array.null_count:
        raise InputError(
            f"{path}: column {name} has {array.null_count} nulls: samples have none", hint="write that day again"
        )
    return array


def _sequence(table: pa.Table, name: str, length: int, path: str, order: Array | None) -> Array:
    array = _whole(table, name, path)
    values = array.flatten()
    lengths = np.diff(array.offsets.to_numpy())
    if values.null_count or not pa.types.is_integer(values.type) or (lengths != length).any():
        raise InputError(
            f"{path}: sequence {name} is {array.type} with lengths {lengths.min(initial=length)} to "
            f"{lengths.max(initial=length)} and {values.null_count} nulls: expected {length} integers in every row",
            hint="write the samples again with this configuration",
        )
    matrix = values.to_numpy(zero_copy_only=False).reshape(-1, length)
    return _ordered(matrix, order, np.int64)


def _ordered(values: Array, order: Array | None, dtype: type[np.generic]) -> Array:
    return (values if order is None else values[order]).astype(dtype, copy=False)
