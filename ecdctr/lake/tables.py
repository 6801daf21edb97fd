"""Tables of one warehouse: create, read, write whole days, pin."""

import datetime as dt
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from delta.tables import DeltaTable
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from ecdctr.exceptions import ConfigError, InputError, TemporaryError
from ecdctr.lake.delta_log import PinnedFile, Snapshot, newest_version, read_note, read_snapshot
from ecdctr.lake.leases import exclusive
from ecdctr.lake.paths import spark_path
from ecdctr.lake.schema import TABLES, Column, TableSpec

logger = logging.getLogger(__name__)

NO_SPACE = "No space left on device"
"""What the system says of a full disk, within whatever Spark and Delta say."""

Txn = tuple[str, int]
"""Application and its ever-growing transaction version; a version that was committed is not written again."""

PROPERTIES = {
    "delta.enableDeletionVectors": "false",
    # Rows per file are kept in any case; minima and maxima cost time, and no reader of these tables asks for them.
    "delta.dataSkippingNumIndexedCols": "0",
    # A version that a model names must stay readable for as long as the model lives, however old its commit is.
    "delta.enableExpiredLogCleanup": "false",
}


def create_table(
    spark: SparkSession,
    path: str,
    spec: TableSpec,
    extra: Sequence[Column] = (),
    properties: dict[str, str] | None = None,
) -> None:
    """Create a table where there is none; see `Lake.create`."""
    builder = DeltaTable.createIfNotExists(spark).location(spark_path(path)).comment(spec.comment)
    for column in (*spec.columns, *extra):
        builder = builder.addColumn(column.name, column.type, nullable=column.nullable, comment=column.comment)
    if spec.partition:
        builder = builder.partitionedBy(spec.partition)
    wanted = PROPERTIES | {f"delta.constraints.{check}": condition for check, condition in spec.checks.items()}
    for key, value in (wanted | (properties or {})).items():
        builder = builder.property(key, value)
    builder.execute()


@dataclass(frozen=True)
class PinnedFiles:
    """The exact files of one version of a table.

    Attributes:
        table: The table's name.
        version: The version's number.
        rows: Rows of all files.
        files: By day, then name.
    """

    table: str
    version: int
    rows: int
    files: tuple[PinnedFile, ...]

    def to_json(self) -> str:
        """As JSON, for a task that is sent to the ranks."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "PinnedFiles":
        """The inverse of `to_json`."""
        tree: dict[str, Any] = json.loads(text)
        files = []
        for file in tree.pop("files"):
            day = file.pop("event_date")
            files.append(PinnedFile(**file, event_date=dt.date.fromisoformat(day) if day else None))
        return cls(**tree, files=tuple(files))


@dataclass(frozen=True)
class TableInfo:
    """A table at its newest version; `since` and `until` are its half-open span of days, if it has days."""

    name: str
    version: int
    rows: int
    bytes: int
    files: int
    since: dt.date | None
    until: dt.date | None


class Lake:
    """The Delta tables under one folder.

    Args:
        spark: A session, or a function that gives one when Spark first reads or writes a table: versions, pins
            and descriptions are read from the log alone.
        root: Folder of the tables.
    """

    def __init__(self, spark: SparkSession | Callable[[], SparkSession], root: Path) -> None:
        self._spark = spark
        self.root = Path(root).absolute()

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session."""
        return self._spark if isinstance(self._spark, SparkSession) else self._spark()

    def path(self, name: str) -> Path:
        """Folder of a table.

        Raises:
            ConfigError: There is no table of this name.
        """
        if name not in TABLES:
            raise ConfigError(f"there is no table {name!r}", hint=f"tables are {', '.join(TABLES)}")
        return self.root / name

    def exists(self, name: str) -> bool:
        """Whether the table was created."""
        return newest_version(self.path(name)) is not None

    def create(self, name: str, extra: Sequence[Column] = (), properties: dict[str, str] | None = None) -> None:
        """Create a table where there is none: types, nullability, comments and constraints in one commit.

        Args:
            name: One of `TABLES`.
            extra: Columns that the configuration adds, after the fixed ones.
            properties: Further table properties.
        """
        if self.exists(name):
            return
        with self.committing(name):
            create_table(self.spark, str(self.path(name)), TABLES[name], extra, properties)

    def committing(self, name: str) -> AbstractContextManager[None]:
        """A block in which no other process or thread commits to a table; it may not commit by methods of this class itself.

        Delta looks whether its commit's number is taken and then renames a file to it, on local paths in two steps: of two
        writers that do so at the same moment one would overwrite the other's commit.

        Raises:
            TemporaryError: Another writer did not end.
        """
        return exclusive(self.root, f"commit-{name}")

    def snapshot(self, name: str, version: int | None = None) -> Snapshot:
        """A version as its log describes it; raises as `read_snapshot`."""
        return read_snapshot(self.path(name), version)

    def version(self, name: str) -> int | None:
        """Number of the newest version, or None where there is no table."""
        return newest_version(self.path(name))

    def transaction(self, name: str, application: str) -> int | None:
        """The newest transaction version that an application has committed to a table."""
        return self.snapshot(name).transactions.get(application) if self.exists(name) else None

    def note(self, name: str) -> str | None:
        """The newest note that a writer left beside a commit."""
        version = self.version(name)
        return None if version is None else read_note(self.path(name), version)

    def read(self, name: str, version: int | None = None) -> DataFrame:
        """The table as a Spark frame, at a version or at the newest one; raises as `read_snapshot`."""
        reader = self.spark.read.format("delta")
        at = self.snapshot(name, version).version
        return reader.option("versionAsOf", at).load(spark_path(self.path(name)))

    def replace_days(
        self,
        name: str,
        frame: DataFrame,
        since: dt.date,
        until: dt.date,
        txn: Txn | None = None,
        note: str | None = None,
    ) -> int:
        """Replace the days `[since, until)` by a frame, in one commit.

        Args:
            name: A table with days.
            frame: Rows of these days alone; a row of another day fails the write.
            since: First day.
            until: The day after the last.
            txn: Makes a repetition after a lost answer harmless.
            note: Kept with the commit, see `note`.

        Returns:
            The version that holds the rows.

        Raises:
            InputError: The window is empty.
        """
        if since >= until:
            raise InputError(f"{name}: the window [{since}, {until}) has no day", hint="give a later end")
        condition = f"event_date >= DATE'{since}' AND event_date < DATE'{until}'"
        return self._write(name, frame, "overwrite", txn, note, {"replaceWhere": condition})

    def replace_all(self, name: str, frame: DataFrame, txn: Txn | None = None, note: str | None = None) -> int:
        """Replace all rows of a table in one commit; gives the version that holds the new ones."""
        return self._write(name, frame, "overwrite", txn, note, {})

    def append(self, name: str, frame: DataFrame, txn: Txn | None = None, note: str | None = None) -> int:
        """Append rows in one commit; the table is created first where it is not there.

        Returns:
            The version that holds the rows.
        """
        return self._write(name, frame, "append", txn, note, {})

    def _write(
        self, name: str, frame: DataFrame, mode: str, txn: Txn | None, note: str | None, options: dict[str, str]
    ) -> int:
        """Write in one commit; raises TemporaryError where the disk is full."""
        self.create(name)
        if note is not None:
            options = options | {"userMetadata": note}
        if txn is not None:
            options = options | {"txnAppId": txn[0], "txnVersion": str(txn[1])}
        try:
            with self.committing(name):
                if txn is None or not self._is_committed(name, txn):
                    frame.write.format("delta").mode(mode).options(**options).save(spark_path(self.path(name)))
                version = self.version(name)
        except (PySparkException, Py4JError, OSError) as error:
            if NO_SPACE not in str(error):
                raise
            raise TemporaryError(
                f"{self.path(name)}: there is no space left for what was to be written; the table is as it was",
                hint="make room there and in spark.local.dir, and run the command again; "
                "files that were begun are in no version, and ecdctr tables vacuum removes them",
            ) from error
        assert version is not None
        return version

    def _is_committed(self, name: str, txn: Txn) -> bool:
        done = self.transaction(name, txn[0])
        if done is None or done < txn[1]:
            return False
        logger.info("%s: transaction %s of %s is committed already", name, txn[1], txn[0])
        return True

    def pin(
        self, name: str, since: dt.date | None = None, until: dt.date | None = None, version: int | None = None
    ) -> PinnedFiles:
        """The exact active files of one version, for readers that know nothing of Delta.

        Args:
            name: The table.
            since: First day; by default all days from the first on.
            until: The day after the last; by default all days up to the last.
            version: The version; by default the newest.

        Raises:
            NotReadyError: There is no such table.
            InputError: The version is gone, or the table uses deletion vectors or column mapping.
        """
        snapshot = self.snapshot(name, version)

        def wanted(day: dt.date | None) -> bool:
            return (since is None or (day is not None and day >= since)) and (
                until is None or (day is not None and day < until)
            )

        files = tuple(file for file in snapshot.files if wanted(file.event_date))
        return PinnedFiles(name, snapshot.version, sum(file.rows for file in files), files)

    def describe(self) -> list[TableInfo]:
        """All tables that exist, in the order of `TABLES`."""
        infos = []
        for name in TABLES:
            if not self.exists(name):
                continue
            snapshot = self.snapshot(name)
            days = sorted(file.event_date for file in snapshot.files if file.event_date is not None)
            infos.append(
                TableInfo(
                    name=name,
                    version=snapshot.version,
                    rows=snapshot.rows,
                    bytes=sum(file.bytes for file in snapshot.files),
                    files=len(snapshot.files),
                    since=days[0] if days else None,
                    until=days[-1] + dt.timedelta(days=1) if days else None,
                )
            )
        return infos
