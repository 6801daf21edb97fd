"""Files of one log, or of what is joined to it, whose columns differ: each difference by its name, before a row is read.

Spark reads all Parquet files of a folder by the schema of one of them: a column that another file lacks would become null, and
one that has another type there an error in the middle of a job.
"""

import csv
import gzip
import logging
import re
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq

from ecdctr.exceptions import InputError

logger = logging.getLogger(__name__)

_PACKED_OTHERWISE = {".bz2", ".deflate", ".lz4", ".snappy", ".zst"}
"""Ends of the names of text files that Spark unpacks and Python's own library, but for one, does not."""

Columns = Mapping[str, str]
"""Type by column."""


def comparable(path: str, kind: str) -> bool:
    """Whether files have columns of their own to compare, and lie where they can be opened one by one."""
    return kind != "delta" and "://" not in path


def columns_of(file: Path, kind: str) -> Columns | None:
    """The columns of one file, those of nested ones included (`a.b`); those of CSV are all text.

    Returns:
        None for a Parquet file without rows, since an empty day is often written without types, for an empty text file, and for
        text that is packed in another way than by gzip.

    Raises:
        InputError: The file is damaged.
    """
    try:
        if kind == "csv":
            if file.suffix in _PACKED_OTHERWISE:
                return None
            unpacked = gzip.open if file.suffix == ".gz" else open
            # Spark leaves out the mark that some programs begin a file with.
            with unpacked(file, "rt", encoding="utf-8-sig") as text:
                header = next(csv.reader(text), None)
                return dict.fromkeys(header, "text") if header else None
        footer = pq.read_metadata(file)
        return dict(_flat(footer.schema.to_arrow_schema())) if footer.num_rows else None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not text in UTF-8: {error}", hint="write this file anew in UTF-8") from error
    except (pa.ArrowException, OSError, EOFError, zlib.error, csv.Error) as error:
        raise InputError(f"{file} is damaged or missing", hint="replace or remove this file") from error


def _flat(fields: Iterable[pa.Field], prefix: str = "") -> Iterable[tuple[str, str]]:
    for field in fields:
        name = f"{prefix}{field.name}"
        if pa.types.is_struct(field.type):
            yield from _flat([field.type.field(place) for place in range(field.type.num_fields)], f"{name}.")
        else:
            yield name, str(field.type)


def differences(expected: Columns, found: Columns) -> dict[str, str]:
    """What distinguishes one file's columns from another's, by the column's top name."""
    said = {}
    dropped = [name for name in expected if name not in found]
    added = [name for name in found if name not in expected]
    for name in dropped:
        heirs = [other for other in added if found[other] == expected[name]]
        renamed = f", perhaps renamed to {heirs[0]!r}" if len(heirs) == 1 and len(dropped) == 1 else ""
        said[name] = f"column {name!r} ({expected[name]}) is missing{renamed}"
    for name in added:
        said[name] = f"column {name!r} ({found[name]}) is new"
    for name in expected:
        if name in found and found[name] != expected[name]:
            said[name] = f"column {name!r} is {found[name]}, was {expected[name]}"
    return said


def _stand_elsewhere(expected: list[str], found: list[str]) -> bool:
    """Whether the same columns have other places; one that is named otherwise, or missing at the end, is told by name."""
    both = [name for name in expected if name in found]
    return [expected.index(name) for name in both] != [found.index(name) for name in both]


def _mentioned(name: str, expressions: Iterable[str]) -> bool:
    """Whether a column occurs as a word in one of some SQL texts, which find columns whatever their case."""
    word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
    return any(word.search(text) for text in expressions)


def refuse_drift(
    kind: str,
    schema_drift: str,
    where: str,
    files: Iterable[str],
    fresh: Iterable[str],
    used: Iterable[str],
    expressions: Collection[str] = (),
) -> None:
    """Compare local Parquet or CSV files not seen before with one that was, or with the first where all are new.

    Args:
        kind: Their format.
        schema_drift: What to do about a column that is read: `fail` or `warn`.
        where: Key of the configuration, for errors.
        files: All files, as Spark names them.
        fresh: Those not seen before.
        used: Columns that are read.
        expressions: SQL over the columns; those that it mentions are read as well.

    Raises:
        InputError: A column that is read is missing or has another type, while that is not allowed.
    """
    unseen = sorted(fresh)
    # Those that were seen before may all be without rows.
    known = [*sorted(set(files) - set(unseen)), *unseen]
    stated = ((file, columns) for file in known if (columns := columns_of(_path(file), kind)) is not None)
    first, expected = next(stated, (known[0], {}))
    tops = {name.split(".")[0] for name in expected}
    wanted = {*used, *(name for name in tops if _mentioned(name, expressions))}
    for file in unseen:
        path = _path(file)
        columns = columns_of(path, kind)
        if columns is None:
            continue
        found = differences(expected, columns)
        hurtful = [text for name, text in found.items() if name.split(".")[0] in wanted and not text.endswith("is new")]
        if hurtful and schema_drift == "fail":
            # A log of clicks and side tables go by the setting of their log.
            setting = ".".join(where.split(".")[:2])
            raise InputError(
                f"{where}: {path} differs from {_path(first).name}: {'; '.join(hurtful)}",
                hint=f"write the file anew, or set {setting}.schema_drift: warn to read what fits",
            )
        if kind == "csv" and _stand_elsewhere(list(expected), list(columns)):
            raise InputError(
                f"{where}: {path} has the columns {', '.join(columns)}, and {_path(first).name} has {', '.join(expected)}",
                hint="values of CSV files are read by their place: write the file anew with its columns in that order",
            )
        if found:
            logger.warning("%s: %s: %s", where, path.name, "; ".join(found.values()))


def _path(file: str) -> Path:
    return Path(unquote(urlparse(file).path))
