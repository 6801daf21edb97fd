"""Open a user's own log: read it, pick the domain's rows, join side tables, find the columns."""

import difflib
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, ParseException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ecdctr.config.dataset import Clicks, DatasetConfig, SideTable, Source
from ecdctr.etl.delta_source import CHANGE, DeltaSource
from ecdctr.etl.drift import comparable, refuse_drift
from ecdctr.etl.nanoseconds import read_parquet
from ecdctr.exceptions import InputError
from ecdctr.features.encoding import SEPARATOR
from ecdctr.features.feature_set import log_columns
from ecdctr.lake.paths import spark_path

KEYS_SHOWN = 3
FILE = "_file"
"""Column of an opened log: the file that a row comes from."""
_DAMAGED = re.compile(
    r"FAILED_READ_FILE|CANNOT_READ_FILE_FOOTER|is not a Parquet file|Could not read footer|FILE_NOT_EXIST"
    r"|readParquetFooters|PARQUET_CONVERSION_FAILURE|ParquetDecodingException|TProtocolException"
)
_FILE = re.compile(r"(?:file:)?/[^\s'\",;]+")


def column(name: str) -> Any:
    """A column by its exact name, whatever characters it has."""
    return F.col("`" + name.replace("`", "``") + "`")


@contextmanager
def reading(where: str, path: str) -> Iterator[None]:
    """Turn Spark's account of an unreadable file into an error that names the file.

    Args:
        where: The configuration's key of what is being read.
        path: The folder or file that is being read.

    Raises:
        InputError: A file is damaged or missing.
    """
    try:
        yield
    except (PySparkException, Py4JError) as error:
        text = str(error)
        if not _DAMAGED.search(text):
            raise
        data = (".parquet", ".csv", ".gz", ".json")
        named = next((file for file in _FILE.findall(text) if file.endswith(data)), None) or _unreadable_footer(path)
        raise InputError(
            f"{where}: {named.removeprefix('file:')} is damaged or missing", hint="replace or remove this file"
        ) from error


def _unreadable_footer(path: str) -> str:
    """The first Parquet file whose footer cannot be read: Spark does not always say which."""
    for file in sorted(Path(path).rglob("*.parquet")) if "://" not in path else []:
        try:
            pq.read_metadata(file)
        except (pa.ArrowException, OSError):
            return str(file)
    return path if Path(path).is_file() else f"a file of {path}"


@dataclass(frozen=True)
class Log:
    """A log as it stood when it was opened.

    Attributes:
        frame: The domain's rows with the columns of its side tables, and `FILE`.
        stamps: For each file of the log what tells it from a changed one: its size and time, or for a file of a Delta
            table, which never changes, the vector of rows that are deleted beside it.
        delta: The table, where the log is one.
        shape: Makes rows as `frame` has them of rows as they stand in the log.
    """

    frame: DataFrame
    stamps: dict[str, str]
    delta: DeltaSource | None
    shape: Callable[[DataFrame], DataFrame]

    def rows_of(self, files: Collection[str]) -> DataFrame:
        """The rows of some files; of a Delta table the others are not opened."""
        if self.delta is not None:
            return self.shape(_with_file(self.delta.rows(files)))
        return self.frame.where(F.col(FILE).isin(sorted(files)))

    def changes(self, after: int) -> DataFrame:
        """The rows that a Delta table gained and lost since a version, `GIVEN` or `TAKEN` standing for the file."""
        assert self.delta is not None
        return self.shape(self.delta.changes(after).withColumnRenamed(CHANGE, FILE))


def open_source(spark: SparkSession, dataset: DatasetConfig, key: str) -> Log:
    """The rows of one domain as they stand in the log, with the columns of its side tables.

    Args:
        spark: The session.
        dataset: The data set's configuration.
        key: `natural` or `ads`.

    Raises:
        InputError: Path, format, condition or columns do not fit what lies there.
    """
    source: Source = getattr(dataset, key)
    where = f"dataset.{key}"
    log = read_files(spark, source.path, source.format, where)
    delta = DeltaSource(spark, source.path) if source.format == "delta" else None
    if delta is not None:
        log = delta.rows()
    stamps = _stamps(log, source, where) if delta is None else delta.files
    sides = [
        (side, _side_table(spark, side, source, f"{where}.side_tables.{place}"), f"{where}.side_tables.{place}")
        for place, side in enumerate(source.side_tables)
    ]

    def shape(rows: DataFrame) -> DataFrame:
        frame = _derive(rows, source.derive, where)
        for side, table, place in sides:
            frame = _join(frame, table, side, place)
        return frame if source.where is None else _filter(frame, source.where, where)

    frame = shape(_with_file(log))
    for side, table, place in sides:
        _refuse_doubles(table, side, place)
    require_columns(frame, columns_read(dataset, source), where)
    if source.clicks is not None:
        log_of_clicks = read_clicks(spark, source.clicks, f"{where}.clicks")
        _refuse_mixed(log_of_clicks, source.clicks, source.clicks.columns.read(), source, f"{where}.clicks")
    return Log(frame, stamps, delta, shape)


def _with_file(log: DataFrame) -> DataFrame:
    return log.withColumn(FILE, log.metadataColumn("_metadata")["file_path"])


def columns_read(dataset: DatasetConfig, source: Source) -> list[str]:
    """The columns of a log, or of its side tables, that anything is made from."""
    columns = dataset.columns_of(source)
    wanted = {columns.user, columns.item, columns.time.column, *columns.identity()}
    wanted |= set() if columns.label is None else {columns.label}
    return [*sorted(wanted), *log_columns(dataset.features)]


def columns_used(dataset: DatasetConfig, source: Source) -> tuple[list[str], list[str]]:
    """All that the files of a log must keep: columns that are read by name, and SQL whose columns are read as well."""
    made = [] if source.negatives is None else source.negatives.item_columns
    names = [*columns_read(dataset, source), *(side.key for side in source.side_tables), *made]
    return names, [*source.derive.values(), *([] if source.where is None else [source.where])]


def _stamps(log: DataFrame, source: Source, where: str) -> dict[str, str]:
    """What tells a changed file of a log from one that is as it was."""
    if "://" not in source.path:
        stamps = {}
        for file in log.inputFiles():
            status = Path(unquote(urlparse(file).path)).stat()
            # Rows name the same file with one slash.
            stamps[file.replace("file:///", "file:/", 1)] = f"{status.st_size}:{status.st_mtime_ns}"
        return stamps
    meta = log.metadataColumn("_metadata")
    facts = log.select(
        meta["file_path"].alias("file"),
        F.concat_ws(":", meta["file_size"], meta["file_modification_time"].cast("double")).alias("stamp"),
    )
    with reading(where, source.path):
        return {row["file"]: row["stamp"] for row in facts.distinct().collect()}


def require_columns(frame: DataFrame, names: Iterable[str], where: str) -> None:
    """Refuse a frame that lacks columns, naming the nearest ones it has.

    Raises:
        InputError: A column is missing.
    """
    missing = sorted({name for name in names if name not in frame.columns})
    if missing:
        columns = [name for name in frame.columns if name != FILE]
        near = [difflib.get_close_matches(name, columns, n=1) for name in missing]
        hints = [f"did you mean {found[0]!r} for {name!r}?" for name, found in zip(missing, near, strict=True) if found]
        raise InputError(
            f"{where} has no column {', '.join(map(repr, missing))}; found {', '.join(columns)}",
            hint=" ".join(hints) or "correct the column names in the configuration",
        )


def matches(path: str) -> list[Path]:
    """The local files or folders that a path names, or that a pattern in its last part matches."""
    local = Path(path).absolute()
    if local.exists():
        return [local]
    return sorted(local.parent.glob(local.name)) if set("*?[") & set(local.name) else []


def fingerprint(dataset: DatasetConfig) -> str | None:
    """SHA-256 over names, sizes and times of all input files; None where they are not on a local file system."""
    lines = []
    for source in (dataset.natural, dataset.ads):
        clicks = [source.clicks.path] if source.clicks else []
        for path in (source.path, *clicks, *(side.path for side in source.side_tables)):
            if "://" in path or not matches(path):
                return None
            roots = matches(path)
            for file in (f for root in roots for f in (sorted(root.rglob("*")) if root.is_dir() else [root])):
                if file.is_file():
                    status = file.stat()
                    lines.append(f"{file}\t{status.st_size}\t{status.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def id_text(log: DataFrame, name: str, where: str) -> Any:
    """An id as text, exactly; null where empty; the ids of an array with a separator between them.

    Whole numbers of any width, decimals without a scale, text, bytes that are UTF-8 (others count as empty), booleans
    and dates keep their value; floating-point numbers, times and structures may not, and are refused.

    Raises:
        InputError: The type is not one that ids keep their value in.
    """
    kind = log.schema[name].dataType
    several = isinstance(kind, T.ArrayType)
    if isinstance(kind, T.ArrayType):
        kind = kind.elementType
    whole = isinstance(kind, T.IntegralType) or (isinstance(kind, T.DecimalType) and kind.scale == 0)
    if not (whole or isinstance(kind, T.StringType | T.BinaryType | T.BooleanType | T.DateType)):
        raise InputError(
            f"{where}: column {name!r} is {log.schema[name].dataType.simpleString()}, expected whole numbers or text for ids",
            hint="ids lose digits as floating-point numbers; write the column as bigint or string, or use it as a number",
        )

    def as_text(value: Any) -> Any:
        # Bytes that are no text would all turn into the same replacement character.
        return F.try_validate_utf8(value.cast("string")) if isinstance(kind, T.BinaryType) else value.cast("string")

    value = column(name)
    text = F.array_join(F.transform(value, as_text), SEPARATOR) if several else as_text(value)
    return F.when(text != "", text)


def read_files(spark: SparkSession, path: str, kind: str, where: str) -> DataFrame:
    """All rows of a file, folder or table.

    Raises:
        InputError: Nothing can be read there.
    """
    if "://" not in path:
        local = Path(path).absolute()
        if not matches(path):
            near = difflib.get_close_matches(local.name, [p.name for p in local.parent.glob("*")])
            raise InputError(
                f"{where}.path: {local} does not exist",
                hint=f"did you mean {local.parent / near[0]}?" if near else "give an existing file or folder",
            )
        is_delta = (local / "_delta_log").is_dir()
        if is_delta != (kind == "delta"):
            found = "a Delta table" if is_delta else "no Delta table (it has no _delta_log)"
            raise InputError(
                f"{where}.path: {local} is {found}, but format is {kind!r}",
                hint="write format: delta" if is_delta else "write format: parquet or format: csv",
            )
        path = str(local)
    reader = spark.read.option("header", True).option("escape", '"') if kind == "csv" else spark.read
    try:
        with reading(where, path):
            place = spark_path(path)
            return read_parquet(spark, place) if kind == "parquet" else reader.format(kind).load(place)
    except AnalysisException as error:
        raise InputError(
            f"{where}.path: nothing can be read from {path} as {kind}: {_first_line(error)}",
            hint="check the path, the format, and that the folder holds files",
        ) from error


def _derive(frame: DataFrame, derived: dict[str, str], where: str) -> DataFrame:
    clash = sorted(set(derived) & set(frame.columns))
    if clash:
        raise InputError(
            f"{where}.derive: {', '.join(clash)} are columns of the log already", hint="choose other names"
        )
    for name, expression in derived.items():
        try:
            frame = frame.withColumn(name, F.expr(expression))
        except (AnalysisException, ParseException) as error:
            raise InputError(
                f"{where}.derive.{name}: {expression!r} is no expression over these rows: {_first_line(error)}",
                hint=f"columns are {', '.join(frame.columns)}",
            ) from error
    return frame


def _filter(frame: DataFrame, condition: str, where: str) -> DataFrame:
    try:
        return frame.where(condition)
    except (AnalysisException, ParseException) as error:
        raise InputError(
            f"{where}.where: {condition!r} is no condition on these rows: {_first_line(error)}",
            hint=f"columns are {', '.join(frame.columns)}",
        ) from error


def _refuse_mixed(table: DataFrame, place: SideTable | Clicks, names: list[str], source: Source, where: str) -> None:
    """Refuse what is joined to a log where its files differ in the columns that are read."""
    if comparable(place.path, place.format):
        files = table.inputFiles()
        refuse_drift(place.format, source.schema_drift, where, files, files, names)


def read_clicks(spark: SparkSession, clicks: Clicks, where: str) -> DataFrame:
    """A log of clicks, which has the columns that are read of it.

    Raises:
        InputError: It cannot be read, or lacks a column.
    """
    log = read_files(spark, clicks.path, clicks.format, where)
    require_columns(log, clicks.columns.read(), where)
    return log


def _side_table(spark: SparkSession, side: SideTable, source: Source, where: str) -> DataFrame:
    """The key of a side table as `_key`, and its columns."""
    table = read_files(spark, side.path, side.format, where)
    names = [side.key, *side.columns]
    require_columns(table, names, where)
    _refuse_mixed(table, side, names, source, where)
    return table.select(column(side.key).alias("_key"), *(column(name) for name in side.columns)).where(
        "_key IS NOT NULL"
    )


def _refuse_doubles(table: DataFrame, side: SideTable, where: str) -> None:
    with reading(where, side.path):
        rows = table.groupBy(F.col("_key").cast("string").alias("_key")).count()
        twice = rows.where("count > 1").orderBy("_key").limit(KEYS_SHOWN).collect()
    if twice:
        keys = ", ".join(repr(row["_key"]) for row in twice)
        raise InputError(
            f"{where}.path: {side.path} has several rows for one {side.key}, for example {keys}",
            hint="a side table has one row per key; remove the others",
        )


def _join(frame: DataFrame, table: DataFrame, side: SideTable, where: str) -> DataFrame:
    require_columns(frame, [side.key], f"{where}.key: the log")
    clash = sorted(set(side.columns) & set(frame.columns))
    if clash:
        raise InputError(
            f"{where}.columns: {', '.join(clash)} are columns of the log already",
            hint="leave them out of the side table",
        )
    _refuse_one_float(frame.schema[side.key].dataType, table.schema["_key"].dataType, side, where)
    # Keys meet as text: one side's integers are often the other side's CSV.
    return frame.join(table, column(side.key).cast("string") == F.col("_key").cast("string"), "left").drop("_key")


def _refuse_one_float(log: T.DataType, table: T.DataType, side: SideTable, where: str) -> None:
    """Refuse keys of which one side's are floating point: as text 5.0 is not 5, and no row would find another."""
    if isinstance(log, T.FloatType | T.DoubleType) != isinstance(table, T.FloatType | T.DoubleType):
        raise InputError(
            f"{where}.key: {side.key!r} is {log.simpleString()} in the log and {table.simpleString()} in {side.path}; "
            "expected ids that read alike on both sides",
            hint="a column of whole numbers turns into floating point where one is missing: write it as bigint or string",
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
