"""What the files of a log hold of each day, and how that changes with the files or with single rows."""

import datetime as dt
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.etl.delta_source import GIVEN, TAKEN
from ecdctr.etl.source import FILE, Log, column

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fact:
    """What one file of a log holds of one day; a row of the table `intake`.

    Attributes:
        file: The file; `CHANGES` for rows that came and went since the files were looked through, which may count
            below zero.
        stamp: Its size and time when it was looked through.
        reason: The check that these rows fail; None for good rows.
        event_date: Their day; None where the time cannot be read.
        rows: How many rows.
        digest: Sum over 32-bit hashes of the rows: the same rows give the same sum in any order and any files.
        clicks: How many of them are clicked.
        nulls: Missing values by column.
    """

    file: str
    stamp: str
    reason: str | None
    event_date: dt.date | None
    rows: int
    digest: int
    clicks: int
    nulls: dict[str, int]


@dataclass(frozen=True)
class Day:
    """All good rows of one day, over all files."""

    rows: int = 0
    digest: int = 0

    def __add__(self, fact: Fact) -> "Day":
        return Day(self.rows + fact.rows, self.digest + fact.digest)


def days_of(facts: Iterable[Fact]) -> dict[dt.date, Day]:
    """Good rows by day."""
    days: dict[dt.date, Day] = {}
    for fact in facts:
        if fact.reason is None and fact.event_date is not None:
            days[fact.event_date] = days.get(fact.event_date, Day()) + fact
    return {day: found for day, found in days.items() if found.rows > 0}


CHANGES = "changes"


def unchanged(known: Iterable[Fact], stamps: Mapping[str, str]) -> tuple[list[Fact], set[str]]:
    """What is known of files that are as they were, and the other files.

    Args:
        known: What was found before.
        stamps: Of all files there are now.
    """
    same = [fact for fact in known if stamps.get(fact.file) == fact.stamp]
    return same, stamps.keys() - {fact.file for fact in same}


def facts_of(frame: DataFrame, files: Collection[str], stamps: Mapping[str, str]) -> list[Fact]:
    """Count typed rows by file, failed check and day, in one pass; a file without rows has a fact that says so.

    Args:
        frame: As `ecdctr.etl.typed_rows.typed_rows` gives it.
        files: The files that are looked at.
        stamps: By file.
    """
    values = [name for name in frame.columns if not name.startswith("_")]
    flags = [column(name).isNull() for name in values]
    # Hashing skips nulls: without the flags, a value that moves to the next column would not be seen.
    digest = F.shiftrightunsigned(F.xxhash64(*(column(name) for name in values), *flags), 32)
    nulls = F.create_map(
        *(x for name, flag in zip(values, flags, strict=True) for x in (F.lit(name), F.count_if(flag)))
    )
    grouped = frame.groupBy(FILE, "_reason", "event_date").agg(
        F.count("*").alias("rows"),
        F.sum(digest).alias("digest"),
        F.count_if(F.col("label") == 1).alias("clicks"),
        nulls.alias("nulls"),
    )
    facts = [
        Fact(
            file=row[FILE],
            stamp=stamps.get(row[FILE], ""),
            reason=row["_reason"],
            event_date=row["event_date"],
            rows=row["rows"],
            digest=row["digest"],
            clicks=row["clicks"],
            nulls={name: count for name, count in row["nulls"].items() if count},
        )
        for row in grouped.collect()
        if row[FILE] in files
    ]
    empty = sorted(set(files) - {fact.file for fact in facts} - {GIVEN, TAKEN})
    return facts + [Fact(file, stamps[file], None, None, 0, 0, 0, {}) for file in empty]


def with_changes(known: Iterable[Fact], changed: Iterable[Fact], stamp: str) -> list[Fact]:
    """What a log holds after some rows came and went.

    Args:
        known: What it held before.
        changed: Counts of rows, whose files are `GIVEN` or `TAKEN`.
        stamp: Of the changes.
    """
    files = [fact for fact in known if fact.file != CHANGES]
    sums: dict[tuple[str | None, dt.date | None], Fact] = {}
    for fact in (*(fact for fact in known if fact.file == CHANGES), *changed):
        sign = -1 if fact.file == TAKEN else 1
        key = fact.reason, fact.event_date
        before = sums.get(key) or Fact(CHANGES, stamp, *key, 0, 0, 0, {})
        nulls = {name: before.nulls.get(name, 0) + sign * fact.nulls.get(name, 0) for name in before.nulls | fact.nulls}
        sums[key] = replace(
            before,
            stamp=stamp,
            rows=before.rows + sign * fact.rows,
            digest=before.digest + sign * fact.digest,
            clicks=before.clicks + sign * fact.clicks,
            nulls={name: count for name, count in nulls.items() if count},
        )
    return files + [fact for fact in sums.values() if fact.rows or fact.digest]


def look_at_delta(
    log: Log, typed: Callable[[DataFrame], DataFrame], known: Sequence[Fact], where: str
) -> tuple[list[Fact], set[str]]:
    """See what a Delta table holds by now, and read as little of it as its own log allows.

    Where files were only added, those are read; where rows of other files were changed, the change data feed, if the
    table keeps one that reaches back to the version that was looked at last; else the files that are new.

    Args:
        log: The table.
        typed: Makes typed rows of the log's.
        known: What earlier calls have found.
        where: Key of the configuration, for messages.

    Returns:
        What the table holds, and the files, or `CHANGES`, that were not looked at before.
    """
    delta = log.delta
    assert delta is not None
    stamps = {file: f"{vector}@{delta.table}:{delta.version}" for file, vector in log.stamps.items()}
    of_table = [fact for fact in known if f"@{delta.table}:" in fact.stamp]
    before = max((int(fact.stamp.rpartition(":")[2]) for fact in of_table), default=None)
    if before == delta.version:
        return of_table, set()
    now = [replace(fact, stamp=f"{_without_version(fact.stamp)}:{delta.version}") for fact in of_table]
    same, fresh = unchanged(now, stamps)
    only_added = len(same) == len(now)
    if before is not None and delta.has_feed and not only_added:
        try:
            changed = facts_of(typed(log.changes(before)), {GIVEN, TAKEN}, {})
            return with_changes(now, changed, f"@{delta.table}:{delta.version}"), {CHANGES}
        except (PySparkException, Py4JError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            logger.warning(
                "%s: the change data feed from version %s on cannot be read, so files are compared: %s",
                where, before + 1, reason,
            )  # fmt: skip
    # What is known of a file that is still there holds; single rows that were followed are in files that are not known.
    return (same + facts_of(typed(log.rows_of(fresh)), fresh, stamps) if fresh else same), fresh


def _without_version(stamp: str) -> str:
    return stamp.rpartition(":")[0]
