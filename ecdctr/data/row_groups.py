"""Row groups of a lane's files as Arrow tables, in the order of the plan, read through Petastorm.

Petastorm can read row groups in the order of their files, or in one that it draws itself; ours takes the order that it is
given. Its stock worker copies every table once and builds sequences row by row; ours hands over Arrow tables, of a large row
group one buffer after the other. Its in-thread pool is used: the overlap with training is the caller's, and nothing is
read ahead beyond what the caller asks for.
"""

import time
import warnings
from collections.abc import Generator, Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from petastorm.fs_utils import FilesystemResolver
from petastorm.reader import Reader
from petastorm.workers_pool.dummy_pool import DummyPool
from petastorm.workers_pool.worker_base import WorkerBase

from ecdctr.data.rows import columns_of
from ecdctr.data.shard_plan import FileRows
from ecdctr.exceptions import InputError
from ecdctr.features import FeatureSet

ALL_AT_ONCE = 1 << 40
BUFFER_ROWS = 1 << 17
"""Most rows that are decoded at a time, so that memory does not follow the size of row groups."""
HAND_OUT_SECONDS = 0.001
OLD_INTERFACE = (
    r"'ParquetDataset\.\w+' attribute is deprecated as of pyarrow 5",
    r"ParquetDatasetPiece is deprecated as of pyarrow 5",
    r"Passing 'use_legacy_dataset=True' to get the legacy behaviour is deprecated",
    r"Specifying the 'metadata_nthreads' argument is deprecated",
    r"pyarrow\.localfs is deprecated",
)
"""What pyarrow says of the interface through which Petastorm opens files; the pinned pair has no other one."""


Buffers = Generator[tuple[int, int, pa.Table], None, None]
"""Place of a row group in the order wanted, number of the buffer in it, and its rows."""


class _TableResults:
    """Hands the worker's buffers over as they are."""

    batched_output = True

    def read_next(self, workers_pool: Any, schema: Any, ngram: Any) -> Buffers:
        from petastorm.workers_pool import EmptyResultError

        try:
            found: Buffers = workers_pool.get_results()
        except EmptyResultError:
            raise StopIteration from None
        return found


class _TableWorker(WorkerBase):
    """Reads row groups with the columns asked for; subclassed by each reader with those that it wants.

    Petastorm asks for as many pieces of work as the files have row groups. The first of them are those wanted, in
    their order; for the rest there is nothing to do.
    """

    wanted: ClassVar[Sequence[tuple[str, int]]] = ()
    """Path and number of each row group, in reading order."""

    def __init__(self, worker_id: int, publish_func: Any, args: tuple[Any, ...]) -> None:
        super().__init__(worker_id, publish_func, args)
        self._schema = args[2]

    @staticmethod
    def new_results_queue_reader() -> _TableResults:
        return _TableResults()

    def process(self, piece_index: int, worker_predicate: None, shuffle_row_drop_partition: tuple[int, int]) -> None:
        if piece_index < len(self.wanted):
            self.publish_func(self._buffers(piece_index, *self.wanted[piece_index]))

    def _buffers(self, place: int, path: str, group: int) -> Buffers:
        try:
            # By its name, not through Petastorm's file object: whose reads would each wait for the interpreter.
            with pq.ParquetFile(path) as source:
                parts = source.iter_batches(
                    # One thread: the cores belong to the ranks' own computation.
                    BUFFER_ROWS, row_groups=[group], columns=list(self._schema.fields), use_threads=False,
                )  # fmt: skip
                for number, part in enumerate(parts):
                    yield place, number, pa.Table.from_batches([part])
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} cannot be read: {error}", hint="write that day again") from error


class RowGroupReader:
    """Row groups of some files, one after the other.

    Opening reads the files' footers; it must not run in two threads at once, since Python's warning filters are the
    process's.

    Args:
        wanted: File and number of each row group, in reading order, at least one; paths are absolute and local.
        features: The columns to read, and their order.
        names: Read event and user ids too.

    Raises:
        InputError: Files that differ in which columns they lack.
    """

    def __init__(self, wanted: Sequence[tuple[FileRows, int]], features: FeatureSet, names: bool) -> None:
        files = list({file.path: file for file, _ in wanted}.values())
        constants = files[0].constants
        other = next((file.path for file in files if file.constants.keys() != constants.keys()), None)
        if other is not None:
            raise InputError(f"{other} and {files[0].path} differ in the columns that are constant: expected the same")
        columns = [name for name in columns_of(features, names) if name not in constants]
        paths = [file.path for file in files]
        groups = [(file.path, group) for file, group in wanted]
        pool = DummyPool()
        # Petastorm hands out as many row groups at a time as there are workers. A pool asked while they are handed out may
        # call itself done too early, or wait for ever; with all of them handed out before the first is asked for it cannot.
        pool.workers_count = ALL_AT_ONCE
        with warnings.catch_warnings():
            for message in OLD_INTERFACE:
                warnings.filterwarnings("ignore", message, FutureWarning)
            self._reader = Reader(
                FilesystemResolver(f"file://{paths[0]}").filesystem(),
                paths,
                # Patterns, each for one whole name.
                schema_fields=[f"^{name}$" for name in columns],
                reader_pool=pool,
                shuffle_row_groups=False,
                num_epochs=1,
                worker_class=type("TableWorker", (_TableWorker,), {"wanted": groups}),
                is_batched_reader=True,
            )

        while not self._reader.ventilator.completed():
            time.sleep(HAND_OUT_SECONDS)

    def __iter__(self) -> Buffers:
        for buffers in self._reader:
            yield from buffers

    def close(self) -> None:
        """End Petastorm's thread."""
        self._reader.stop()
        self._reader.join()
