"""What a version of a Delta table consists of, read from its log without Spark.

Only tables of reader protocol 1 are read: there every active file is plain Parquet in which each row counts.
Deletion vectors and column mapping raise the protocol; a table with either is refused, not read wrongly.
Source: the Delta transaction log protocol (PROTOCOL.md of delta-io/delta).
"""

import datetime as dt
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq

from ecdctr.exceptions import InputError, NotReadyError

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")
READER_PROTOCOL = 1


@dataclass(frozen=True)
class PinnedFile:
    """An active data file.

    Attributes:
        path: Absolute path.
        rows: Rows in the file.
        bytes: Size of the file.
        event_date: The file's day where the table is divided by days.
    """

    path: str
    rows: int
    bytes: int
    event_date: dt.date | None


@dataclass(frozen=True)
class Snapshot:
    """One version of a table.

    Attributes:
        version: The version's number.
        files: Active files by day, then name.
        partitions: For each file, the values of its partition columns as the log has them.
        transactions: Highest transaction version committed by each application.
        properties: The table's properties.
        schema: The table's schema in Spark's JSON form.
    """

    version: int
    files: tuple[PinnedFile, ...]
    partitions: tuple[dict[str, str | None], ...]
    transactions: dict[str, int]
    properties: dict[str, str]
    schema: dict[str, Any]

    @property
    def rows(self) -> int:
        """Rows of the version."""
        return sum(file.rows for file in self.files)


@dataclass
class _State:
    """Actions replayed so far."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    transactions: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)

    def apply(self, action: dict[str, Any]) -> None:
        if add := action.get("add"):
            self.files[add["path"]] = add
        elif remove := action.get("remove"):
            self.files.pop(remove["path"], None)
        elif txn := action.get("txn"):
            self.transactions[txn["appId"]] = int(txn["version"])
        elif metadata := action.get("metaData"):
            self.metadata = metadata
        elif protocol := action.get("protocol"):
            self.protocol = protocol


def is_table(path: Path) -> bool:
    """Whether a Delta table lies at the path."""
    return newest_version(path) is not None


def newest_version(path: Path) -> int | None:
    """The newest version's number, or None where no table is."""
    log = path / "_delta_log"
    versions = [int(found[1]) for file in _names(log) if (found := _COMMIT.fullmatch(file))]
    return max(versions, default=None)


def read_snapshot(path: Path, version: int | None = None) -> Snapshot:
    """Replay the log of a table.

    Args:
        path: The table's folder.
        version: The version wanted; by default the newest.

    Raises:
        NotReadyError: No table lies there.
        InputError: The version does not exist any more or not yet, or the table uses features that plain
            Parquet readers cannot honour.
    """
    newest = newest_version(path)
    if newest is None:
        raise NotReadyError(f"no Delta table at {path}", hint="run the job that writes it first")
    wanted = newest if version is None else version
    state, since = _checkpoint(path, wanted)
    commits = {int(found[1]) for name in _names(path / "_delta_log") if (found := _COMMIT.fullmatch(name))}
    for number in range(since, wanted + 1):
        if number not in commits:
            raise InputError(
                f"{path}: version {wanted} cannot be read, its log lacks commit {number}",
                hint=f"choose a version from {min(commits)} to {newest}",
            )
        for line in (path / "_delta_log" / f"{number:020d}.json").read_text(encoding="utf-8").splitlines():
            if line.strip():
                state.apply(json.loads(line))
    _refuse_unreadable(path, state)
    return _snapshot(path, wanted, state)


def read_note(path: Path, version: int) -> str | None:
    """The newest note (`userMetadata`) that a writer left beside a commit up to a version, as far as the log reaches back."""
    for number in range(version, -1, -1):
        file = path / "_delta_log" / f"{number:020d}.json"
        if not file.exists():
            return None
        for line in file.read_text(encoding="utf-8").splitlines():
            note: str | None = json.loads(line).get("commitInfo", {}).get("userMetadata")
            if note is not None:
                return note
    return None


def removals(path: Path) -> dict[str, float]:
    """When each file was last taken out of a table, in seconds since 1970 UTC, as far as the log reaches back."""
    found: dict[str, float] = {}
    for name in sorted(name for name in _names(path / "_delta_log") if _COMMIT.fullmatch(name)):
        for line in (path / "_delta_log" / name).read_text(encoding="utf-8").splitlines():
            if line.strip() and (remove := json.loads(line).get("remove")):
                found[unquote(remove["path"])] = remove.get("deletionTimestamp", 0) / 1000
    return found


@dataclass(frozen=True)
class Commit:
    """What one commit of a table did.

    Attributes:
        version: The version that it made.
        time: When, in UTC; None where the writer did not say.
        operation: What the writer calls it, such as WRITE.
        rows_added: Rows of the files that it added.
        files_added: How many files it added.
        files_removed: How many files it took out.
    """

    version: int
    time: dt.datetime | None
    operation: str
    rows_added: int
    files_added: int
    files_removed: int


def commits(path: Path) -> list[Commit]:
    """Every commit of a table, as far as the log reaches back, oldest first.

    Raises:
        NotReadyError: No table lies there.
    """
    if newest_version(path) is None:
        raise NotReadyError(f"no Delta table at {path}", hint="run the job that writes it first")
    found = []
    for name in sorted(name for name in _names(path / "_delta_log") if _COMMIT.fullmatch(name)):
        lines = (path / "_delta_log" / name).read_text(encoding="utf-8").splitlines()
        actions = [json.loads(line) for line in lines if line.strip()]
        info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
        added = [json.loads(action["add"].get("stats") or "{}") for action in actions if "add" in action]
        stamp = info.get("timestamp")
        found.append(
            Commit(
                version=int(name.split(".")[0]),
                time=None if stamp is None else dt.datetime.fromtimestamp(stamp / 1000, dt.UTC),
                operation=info.get("operation", ""),
                rows_added=sum(stats.get("numRecords", 0) for stats in added),
                files_added=len(added),
                files_removed=sum("remove" in action for action in actions),
            )
        )
    return found


def _names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []


def _checkpoint(path: Path, wanted: int) -> tuple[_State, int]:
    """State at the newest complete checkpoint up to `wanted`, and the first commit after it."""
    parts: dict[tuple[int, int], list[str]] = {}
    for name in _names(path / "_delta_log"):
        if (found := _CHECKPOINT.fullmatch(name)) and int(found[1]) <= wanted:
            parts.setdefault((int(found[1]), int(found[3] or 1)), []).append(name)
    complete = [key for key, names in parts.items() if len(names) == key[1]]
    state = _State()
    if not complete:
        return state, 0
    newest = max(complete)
    for name in parts[newest]:
        for action in pq.read_table(path / "_delta_log" / name).to_pylist():
            state.apply(_without_nulls(action))
    return state, newest[0] + 1


def _without_nulls(action: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's row as the log would have it: maps come as lists of pairs."""
    for kind, maps in (("add", ("partitionValues",)), ("metaData", ("configuration",))):
        if body := action.get(kind):
            action[kind] = body | {name: dict(body[name] or []) for name in maps}
    return action


def _refuse_unreadable(path: Path, state: _State) -> None:
    mode = state.metadata.get("configuration", {}).get("delta.columnMapping.mode", "none")
    found = []
    if any(add.get("deletionVector") for add in state.files.values()):
        found.append("deletion vectors")
    if mode != "none":
        found.append(f"column mapping ({mode})")
    protocol = int(state.protocol.get("minReaderVersion", READER_PROTOCOL))
    if not found and protocol > READER_PROTOCOL:
        found.append(", ".join(state.protocol.get("readerFeatures") or []) or f"reader protocol {protocol}")
    if found:
        raise InputError(
            f"{path} uses {' and '.join(found)}; its files cannot be read as plain Parquet",
            hint="write the table anew with delta.enableDeletionVectors=false, delta.columnMapping.mode=none",
        )


def _snapshot(path: Path, version: int, state: _State) -> Snapshot:
    pairs = []
    for add in state.files.values():
        statistics = json.loads(add.get("stats") or "{}")
        file = path / unquote(add["path"])
        rows = statistics.get("numRecords")
        if rows is None:
            rows = pq.read_metadata(file).num_rows
        day = add["partitionValues"].get("event_date")
        event_date = dt.date.fromisoformat(day) if day else None
        pinned = PinnedFile(str(file), int(rows), int(add["size"]), event_date)
        pairs.append((pinned, dict(add["partitionValues"])))
    pairs.sort(key=lambda pair: (str(pair[0].event_date), pair[0].path))
    return Snapshot(
        version=version,
        files=tuple(pinned for pinned, _ in pairs),
        partitions=tuple(values for _, values in pairs),
        transactions=state.transactions,
        properties=dict(state.metadata.get("configuration", {})),
        schema=json.loads(state.metadata.get("schemaString") or "{}"),
    )
