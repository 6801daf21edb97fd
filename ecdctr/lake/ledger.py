"""The ledger: one row per published version and per alias change; nothing exists that does not stand here."""

import datetime as dt
import logging
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql.types import StructType

from ecdctr.exceptions import AlreadyDone, InputError, NotReadyError, TemporaryError
from ecdctr.lake.frames import local_frame
from ecdctr.lake.tables import Lake

logger = logging.getLogger(__name__)

TABLE = "ledger"
ATTEMPTS = 10


@dataclass(frozen=True)
class LedgerEntry:
    """A published version.

    Attributes:
        version: Its name.
        level: tpm, cpm or actr.
        arm: Way of training.
        date: Logical date: the first day it may not have seen.
        window_from: First day trained on.
        window_until: First day after those trained on.
        parents: Versions it was made from.
        tables: Table versions it was trained on.
        config_digest: SHA-256 of what decides the result.
        code_version: Version of this package.
        feature_fingerprint: SHA-256 of the sample contract.
        seed: Seed of the run.
        ranks: Training processes.
        artifact: Folder in the artifact store.
        digest: SHA-256 of all parameters.
        metrics_json: What the training recorded.
        seq: Place in the ledger; given by the commit.
        committed_at: UTC; given by the commit.
    """

    version: str
    level: str
    arm: str
    date: dt.date
    window_from: dt.date
    window_until: dt.date
    parents: tuple[str, ...]
    tables: dict[str, int]
    config_digest: str
    code_version: str
    feature_fingerprint: str
    seed: int
    ranks: int
    artifact: str
    digest: str
    metrics_json: str = "{}"
    seq: int = 0
    committed_at: dt.datetime | None = None

    @property
    def key(self) -> tuple[str, str, dt.date, str, int]:
        """What may be published once only."""
        return self.level, self.arm, self.date, self.config_digest, self.seed


@dataclass
class _Content:
    """The ledger at one version of its table."""

    at: int | None = None
    entries: list[LedgerEntry] = field(default_factory=list)
    trails: dict[str, list[str]] = field(default_factory=dict)
    writers: set[str] = field(default_factory=set)
    last: int = 0


class Ledger:
    """Reads and extends the ledger of one warehouse.

    Two writers never take the same place: each commit is a Delta transaction of one application, numbered by
    its last row, and Delta lets one of two concurrent transactions of an application fail. The loser reads again
    and decides anew. Rows are read from the files that the log names, without Spark.

    Args:
        lake: The warehouse's tables.
    """

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._content = _Content()

    def versions(self, level: str | None = None, arm: str | None = None) -> list[LedgerEntry]:
        """Published versions in the order of their commits."""
        return [
            entry
            for entry in self._read().entries
            if (level is None or entry.level == level) and (arm is None or entry.arm == arm)
        ]

    def get(self, version: str) -> LedgerEntry:
        """One version.

        Raises:
            NotReadyError: It is not published.
        """
        for entry in self._read().entries:
            if entry.version == version:
                return entry
        raise NotReadyError(f"no version {version!r} is published", hint="ecdctr models list shows those that are")

    def alias(self, name: str) -> str | None:
        """The version that an alias points to."""
        return self.aliases().get(name)

    def aliases(self) -> dict[str, str]:
        """All aliases."""
        return {name: trail[-1] for name, trail in self._read().trails.items()}

    def trail(self, name: str) -> list[str]:
        """The way back of an alias: what it points to now comes last, what it goes back to before that.

        Pointing it to the version before the last takes the last one off, whoever does it and why; so going back twice
        never comes to the version that was left first.
        """
        return list(self._read().trails.get(name, ()))

    def commit_version(self, entry: LedgerEntry) -> LedgerEntry:
        """Publish one version; see `commit_versions`."""
        return self.commit_versions([entry])[0]

    def commit_versions(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        """Publish versions in one commit; one that stands there already with the same content is left as it is.

        Returns:
            The published entries, in the order given.

        Raises:
            AlreadyDone: For the same level, arm, date, configuration and seed another version is published.
            TemporaryError: Other writers kept coming first.
        """
        for _ in range(ATTEMPTS):
            content = self._read()
            published = {entry.key: entry for entry in content.entries}
            for entry in entries:
                _refuse_other(entry, published.get(entry.key))
            fresh = [entry for entry in entries if entry.key not in published]
            if not fresh:
                return [published[entry.key] for entry in entries]
            self._commit(content, [{"kind": "version"} | _row(entry) for entry in fresh])
        raise TemporaryError("other writers kept extending the ledger first", hint="run the command again")

    def set_alias(self, name: str, version: str, expected: str | None) -> None:
        """Point an alias to a version, if it still points where the caller believes.

        Args:
            name: The alias.
            version: The published version that it is to mean.
            expected: What it means now; None: it does not exist.

        Raises:
            NotReadyError: The version is not published.
            InputError: The alias means something else by now.
            TemporaryError: Other writers kept coming first.
        """
        self.get(version)
        for _ in range(ATTEMPTS):
            content = self._read()
            found = next(reversed(content.trails.get(name, [])), None)
            if found != expected:
                raise InputError(
                    f"alias {name!r} points to {found}, expected {expected}", hint="look at it again, then decide anew"
                )
            if self._commit(content, [{"kind": "alias", "version": version, "alias": name}]):
                return
        raise TemporaryError("other writers kept extending the ledger first", hint="run the command again")

    def _commit(self, content: _Content, rows: list[dict[str, Any]]) -> bool:
        """Append rows after the content read; False where another writer came first."""
        self.lake.create(TABLE)
        writer = uuid.uuid4().hex
        stamp = {"committed_at": dt.datetime.now(dt.UTC), "writer": writer}
        numbered = [row | stamp | {"seq": content.last + place} for place, row in enumerate(rows, start=1)]
        frame = local_frame(self.lake.spark, numbered, _schema(self.lake)).coalesce(1)
        try:
            self.lake.append(TABLE, frame, txn=(TABLE, numbered[-1]["seq"]))
        except (PySparkException, Py4JError) as error:
            # The commit may have landed although its answer was lost; the rows themselves tell.
            if writer in self._read().writers:
                return True
            if "Concurrent" not in str(error):
                raise
            logger.info("another writer extended the ledger first; reading it again")
        return writer in self._read().writers

    def _read(self) -> _Content:
        newest = self.lake.version(TABLE)
        if newest is None or newest == self._content.at:
            return self._content if newest is not None else _Content()
        pinned = self.lake.pin(TABLE, version=newest)
        tables = [pq.ParquetFile(file.path).read() for file in pinned.files]
        rows = sorted(pa.concat_tables(tables).to_pylist(), key=lambda row: row["seq"]) if tables else []
        content = _Content(at=newest)
        for row in rows:
            content.writers.add(row["writer"])
            content.last = row["seq"]
            if row["kind"] == "alias":
                _move(content.trails.setdefault(row["alias"], []), row["version"])
            else:
                content.entries.append(_entry(row))
        self._content = content
        return content


def _move(trail: list[str], version: str) -> None:
    if trail[-2:-1] == [version]:
        trail.pop()
    elif trail[-1:] != [version]:
        trail.append(version)


def _refuse_other(entry: LedgerEntry, published: LedgerEntry | None) -> None:
    if published is not None and (published.version, published.digest) != (entry.version, entry.digest):
        raise AlreadyDone(
            f"{entry.level} {entry.arm} of {entry.date} is published already as {published.version}, "
            f"which differs from {entry.version}",
            hint="use the published one, or change the configuration or the seed",
        )


def _row(entry: LedgerEntry) -> dict[str, Any]:
    row = asdict(replace(entry, seq=0, committed_at=None))
    return row | {"parents": list(entry.parents)}


def _entry(row: dict[str, Any]) -> LedgerEntry:
    names = LedgerEntry.__dataclass_fields__
    known = {name: row[name] for name in names}
    return LedgerEntry(**known | {"parents": tuple(row["parents"]), "tables": dict(row["tables"])})


def _schema(lake: Lake) -> StructType:
    return StructType.fromJson(lake.snapshot(TABLE).schema)
