"""Look at Parquet files before a single row is read: are they there, whole, and what they are said to be?"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ecdctr.data.shard_plan import FileRows
from ecdctr.exceptions import InputError

# Petastorm unpickles what it finds under these keys: a file that carries them could run code.
PICKLED = b"dataset-toolkit."
THREADS = 8

T = TypeVar("T")
U = TypeVar("U")


def read_footers(paths: Sequence[str]) -> list[FileRows]:
    """Rows of each file.

    Raises:
        InputError: A file is missing, corrupt, or carries pickled metadata.
    """
    return _each(lambda path: FileRows(path, _footer(path).num_rows), paths)


def by_row_groups(files: Sequence[FileRows]) -> list[FileRows]:
    """One entry for each row group of some files, in order: smaller parts are dealt to lanes more evenly.

    Raises:
        InputError: A file is missing, corrupt, has other rows, or carries pickled metadata.
    """

    def split(file: FileRows) -> list[FileRows]:
        footer = _footer(file.path)
        if file.groups is None:
            _refuse_other_rows(file, footer.num_rows)
        return [
            replace(file, rows=footer.row_group(group).num_rows, groups=(group,))
            for group in range(footer.num_row_groups)
        ]

    return [part for parts in _each(split, files) for part in parts]


def check_files(files: Sequence[FileRows], columns: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Compare files with what a plan says of them.

    Args:
        files: Paths, and the rows that the table's log says they have.
        columns: Columns that every file must have.

    Returns:
        Rows of each row group of each file, by path.

    Raises:
        InputError: A file is missing, corrupt, has other rows, lacks a column, or carries pickled metadata.
    """
    wanted = set(columns)

    def check(file: FileRows) -> tuple[int, ...]:
        footer = _footer(file.path)
        groups = range(footer.num_row_groups) if file.groups is None else file.groups
        _refuse_other_rows(file, sum(footer.row_group(group).num_rows for group in groups))
        missing = wanted - file.constants.keys() - set(footer.schema.to_arrow_schema().names)
        if missing:
            raise InputError(
                f"{file.path} has no columns {sorted(missing)}", hint="write the samples again with this configuration"
            )
        return tuple(footer.row_group(group).num_rows for group in range(footer.num_row_groups))

    return dict(zip((file.path for file in files), _each(check, files), strict=True))


def _refuse_other_rows(file: FileRows, rows: int) -> None:
    if rows != file.rows:
        raise InputError(
            f"{file.path} has {rows} rows: the table's log says {file.rows}",
            hint="the file was changed after it was committed; write that day again",
        )


def _each(function: Callable[[T], U], values: Sequence[T]) -> list[U]:
    with ThreadPoolExecutor(THREADS, thread_name_prefix="footers") as threads:
        return list(threads.map(function, values))


def _footer(path: str) -> Any:
    try:
        footer = pq.read_metadata(path)
    except FileNotFoundError as error:
        raise InputError(
            f"{path} is missing: the pinned table version lists it",
            hint="it may have been removed by VACUUM; write that day again",
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a whole Parquet file: {error}", hint="write that day again") from error
    keys = [key for key in footer.metadata or {} if key.startswith(PICKLED)]
    if keys:
        raise InputError(
            f"{path} carries pickled metadata ({keys[0].decode(errors='replace')}), which is never read here",
            hint="write the rows again with Spark, which leaves such metadata out",
        )
    return footer
