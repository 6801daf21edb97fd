"""Clean-up that says first what it would remove, and never takes a file that somebody still needs."""

import dataclasses
import datetime as dt
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from delta.tables import DeltaTable

from ecdctr.exceptions import InputError
from ecdctr.lake.delta_log import newest_version, read_snapshot, removals
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.lake.paths import spark_path
from ecdctr.lake.schema import TABLES
from ecdctr.lake.tables import Lake

logger = logging.getLogger(__name__)

COMPACTED = (
    "ledger",
    "predictions",
    "tpm_embeddings",
    "serving_embeddings",
    "quarantine",
    "vocabulary",
    "data_quality",
)
"""Tables whose layout nobody relies on; samples are written in the layout that readers shard by."""
SMALL_FILES = 8
"""Files in one partition from which on a table is worth compacting."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a clean-up of one table removes.

    Attributes:
        table: The table.
        newest: Its newest version.
        pinned: Older versions whose files stay, because a live model or a running job names them.
        files: Files that no kept version has and that are older than the retention.
        bytes: Their size.
        kept_files: Files that no kept version has, but that are too young to go.
    """

    table: str
    newest: int
    pinned: tuple[int, ...]
    files: tuple[Path, ...]
    bytes: int
    kept_files: int


@dataclasses.dataclass(frozen=True)
class Live:
    """Published versions that clean-up must leave something.

    Attributes:
        models: Those that keep their rows.
        artifacts: Folders of those that keep their files.
    """

    models: dict[str, LedgerEntry]
    artifacts: frozenset[str]


def live_models(entries: Iterable[LedgerEntry], served: Iterable[str], since: dt.datetime) -> Live:
    """Published versions that clean-up must not cut off from their rows, or from their files.

    In use are: what serves or may serve again, the newest version of each level, arm, configuration and seed, and what was
    published since a moment. These keep their rows and files. Of what they were made from, all versions keep their rows, and
    those of the last step their files: a model that goes on day by day was made from every one before it.

    Args:
        entries: The ledger's versions, in order.
        served: Versions that an alias means or goes back to.
        since: Versions published at or after this are in use (UTC).
    """
    known = {entry.version: entry for entry in entries}
    # The last day is the newest, also where an earlier one was published after it.
    by_date = sorted(known.values(), key=lambda entry: (entry.date, entry.seq))
    newest = {(e.level, e.arm, e.config_digest, e.seed): e.version for e in by_date}
    recent = {e.version for e in known.values() if e.committed_at is None or _utc(e.committed_at) >= since}
    used = [known[version] for version in {*served, *newest.values(), *recent} if version in known]
    parents = [known[parent] for entry in used for parent in entry.parents if parent in known]
    live: dict[str, LedgerEntry] = {}
    waiting = [entry.version for entry in used]
    while waiting:
        version = waiting.pop()
        if version in known and version not in live:
            live[version] = known[version]
            waiting.extend(known[version].parents)
    return Live(live, frozenset(entry.artifact for entry in (*used, *parents)))


def pins_of(models: Iterable[LedgerEntry]) -> dict[str, set[int]]:
    """The table versions that models name, by table."""
    pins: dict[str, set[int]] = {}
    for entry in models:
        for table, version in entry.tables.items():
            pins.setdefault(table, set()).add(version)
    return pins


def plan_sweeps(root: Path, pins: Mapping[str, set[int]], before: dt.datetime) -> list[Sweep]:
    """What a clean-up would remove from each table; removes nothing.

    A file stays if the newest version or a pinned one has it, if it was taken out of the table at or after `before`, or if it
    was written since: it may belong to a commit that is still to come.

    Args:
        root: The warehouse's folder.
        pins: By table, versions that stay whole.
        before: What was out of use by then may go (UTC).

    Raises:
        InputError: A pinned version cannot be read any more, so that nobody knows which files are its own.
    """
    return [
        _plan(root / name, name, pins.get(name, set()), before)
        for name in TABLES
        if newest_version(root / name) is not None
    ]


def _plan(path: Path, name: str, pins: set[int], before: dt.datetime) -> Sweep:
    newest = newest_version(path)
    assert newest is not None
    needed: set[str] = set()
    for version in sorted({newest, *pins}):
        try:
            needed |= {file.path for file in read_snapshot(path, version).files}
        except InputError as error:
            raise InputError(
                f"{name}: version {version}, which a live model or a running job names, cannot be read: {error.message}",
                hint="nothing of this table is removed; publish the model anew, or move its alias",
            ) from error
    moment = before.timestamp()
    kept = {str(path / file) for file, removed in removals(path).items() if removed >= moment}
    files, size, young = [], 0, 0
    for file in _data_files(path):
        if str(file) in needed:
            continue
        status = file.stat()
        if str(file) in kept or status.st_mtime >= moment:
            young += 1
            continue
        files.append(file)
        size += status.st_size
    return Sweep(name, newest, tuple(sorted(pins - {newest})), tuple(files), size, young)


def _data_files(path: Path) -> list[Path]:
    """Parquet files of a table, those of its log and hidden ones left out."""
    return [
        file
        for file in sorted(path.rglob("*.parquet"))
        if not any(part.startswith(("_", ".")) for part in file.relative_to(path).parts)
    ]


def sweep(plan: Sweep) -> int:
    """Remove what a plan names; gives the number of files that were removed."""
    count = 0
    for file in plan.files:
        file.unlink(missing_ok=True)
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
        count += 1
    logger.info("%s: removed %s files (%s bytes)", plan.table, f"{count:,}", f"{plan.bytes:,}")
    return count


def compact(lake: Lake, name: str) -> int:
    """Write a table's small files together, its rows being the same; gives the files less.

    Raises:
        InputError: The table's layout is part of what readers rely on.
    """
    if name not in COMPACTED:
        raise InputError(
            f"{name} is not compacted: its readers rely on its layout", hint=f"choose of {', '.join(COMPACTED)}"
        )
    with lake.committing(name):
        return _compact(lake, name)


def _compact(lake: Lake, name: str) -> int:
    snapshot = lake.snapshot(name)
    groups: dict[str, int] = {}
    for values in snapshot.partitions:
        key = json.dumps(values, sort_keys=True)
        groups[key] = groups.get(key, 0) + 1
    if max(groups.values(), default=0) < SMALL_FILES:
        return 0
    DeltaTable.forPath(lake.spark, spark_path(lake.path(name))).optimize().executeCompaction()
    return len(snapshot.files) - len(lake.snapshot(name).files)


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
