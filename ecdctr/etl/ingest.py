"""One domain's log → clean impressions: typed, checked, labelled, each once."""

import datetime as dt
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ecdctr.config.dataset import Columns, DatasetConfig
from ecdctr.etl import clock
from ecdctr.etl.attribution import labelled
from ecdctr.etl.drift import refuse_drift
from ecdctr.etl.negatives import with_negatives
from ecdctr.etl.source import FILE, KEYS_SHOWN, column, columns_read, id_text, open_source, reading
from ecdctr.exceptions import InputError
from ecdctr.features.encoding import SEPARATOR
from ecdctr.features.feature_set import log_columns
from ecdctr.lake.schema import TABLES, Column

logger = logging.getLogger(__name__)

SOURCE_KEYS = {"natural": "natural", "ad": "ads"}
ROWS_PER_FILE = 2_000_000
_FIXED = {spec.name for spec in TABLES["natural_impressions"].columns}


@dataclass(frozen=True)
class Fact:
    """What one file of a log holds of one day; a row of the table `intake`.

    Attributes:
        file: The file.
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
    return days


@dataclass(frozen=True)
class Ingest:
    """One domain's log, typed and looked through; nothing is written yet.

    Attributes:
        domain: natural or ad.
        frame: Impressions with `_reason` (null: good), `_keys`, `_row` and the file that they come from.
        facts: What the files hold.
        fresh: Files that were not looked through before.
    """

    domain: str
    frame: DataFrame
    facts: tuple[Fact, ...]
    fresh: frozenset[str]

    @cached_property
    def days(self) -> dict[dt.date, Day]:
        """Good rows by day."""
        return days_of(self.facts)

    @property
    def rows(self) -> dict[dt.date, int]:
        """Number of good rows by day."""
        return {day: found.rows for day, found in self.days.items()}

    @property
    def bad(self) -> dict[tuple[str, dt.date | None], int]:
        """Rows by reason and day; the day is None where the time cannot be read."""
        counts: dict[tuple[str, dt.date | None], int] = {}
        for fact in self.facts:
            if fact.reason is not None:
                counts[fact.reason, fact.event_date] = counts.get((fact.reason, fact.event_date), 0) + fact.rows
        return counts

    def bad_in(self, since: dt.date | None, until: dt.date) -> int:
        """Bad rows of the days `[since, until)`, and those without a day."""
        return sum(count for (_, day), count in self.bad.items() if _within(day, since, until))

    def fresh_bad(self, until: dt.date) -> bool:
        """Whether a file that was not seen before has bad rows of days before `until`."""
        return any(
            fact.reason and fact.file in self.fresh and _within(fact.event_date, None, until) for fact in self.facts
        )

    def largest_day(self) -> int:
        """Rows of the day with the most."""
        return max(self.rows.values(), default=0)

    def without(self, days: Iterable[dt.date]) -> "Ingest":
        """The same log less some days."""
        left_out = list(days)
        frame = self.frame.where(~F.col("event_date").isin(left_out) | F.col("event_date").isNull())
        facts = tuple(fact for fact in self.facts if fact.event_date not in left_out)
        return Ingest(self.domain, frame, facts, self.fresh)

    def only(self, files: Iterable[str]) -> DataFrame:
        """The frame's rows that come from some of its files."""
        wanted = set(files)
        if wanted >= {fact.file for fact in self.facts}:
            return self.frame
        return self.frame.where(F.col(FILE).isin(sorted(wanted)))


def extra_columns(dataset: DatasetConfig) -> list[Column]:
    """The columns of impressions that features are made from."""
    types = log_columns(dataset)
    return [
        Column(name, kind, f"column {name} of the log", nullable=True)
        for name, kind in types.items()
        if name not in _FIXED
    ]


def look_through(spark: SparkSession, dataset: DatasetConfig, domain: str, known: Sequence[Fact] = ()) -> Ingest:
    """Type the log of a domain and see what each file holds of each day, in one pass over those not seen before.

    Args:
        spark: The session.
        dataset: The data set's configuration.
        domain: natural or ad.
        known: What earlier calls have found; files that are as they were then are not read again.

    Raises:
        InputError: The log does not fit the mapping, or has no row.
    """
    key = SOURCE_KEYS[domain]
    source = getattr(dataset, key)
    log = open_source(spark, dataset, key)
    rows = log.frame
    if source.negatives is not None:
        rows = with_negatives(rows, source.negatives, dataset.columns_of(source), dataset, f"dataset.{key}")
    frame = _typed(rows, dataset, dataset.columns_of(source), f"dataset.{key}")
    same = [fact for fact in known if log.stamps.get(fact.file) == fact.stamp]
    fresh = log.stamps.keys() - {fact.file for fact in same}
    found = Ingest(domain, frame, tuple(same), frozenset(fresh))
    if fresh:
        refuse_drift(source, f"dataset.{key}", log.stamps, fresh, columns_read(dataset, source))
        unseen = frame.where(F.col(FILE).isin(sorted(fresh))) if same else frame
        with reading(f"dataset.{key}", source.path):
            facts = [fact for fact in _facts(unseen, log.stamps) if fact.file in fresh]
        found = Ingest(domain, frame, (*same, *facts), frozenset(fresh))
    if not found.facts:
        condition = f" where {source.where}" if source.where else ""
        raise InputError(f"dataset.{key}: {source.path}{condition} has no rows", hint="check path and condition")
    return found


def _facts(frame: DataFrame, stamps: dict[str, str]) -> list[Fact]:
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
    return [
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
    ]


def refuse_bad_rows(found: Ingest, since: dt.date | None, until: dt.date) -> None:
    """Fail for bad rows of the days `[since, until)`, naming the checks, the counts and some rows.

    Raises:
        InputError: There is one.
    """
    if not found.bad_in(since, until):
        return
    reasons: dict[str, int] = {}
    for (reason, day), count in found.bad.items():
        if _within(day, since, until):
            reasons[reason] = reasons.get(reason, 0) + count
    rows = _bad_rows(found, since, until).select("_reason", "_keys").limit(KEYS_SHOWN).collect()
    raise InputError(
        f"dataset.{SOURCE_KEYS[found.domain]}: "
        + "; ".join(f"{count:,} rows: {reason}" for reason, count in sorted(reasons.items()))
        + ". For example "
        + "; ".join(f"{row['_keys']} ({row['_reason']})" for row in rows),
        hint="mend the log, or set dataset.drop_bad_rows: true to put such rows aside; nothing was written",
    )


LATE = "late"
"""Reason of rows whose day was closed before they came."""


def late_rows(found: Ingest, days: Sequence[dt.date], known: DataFrame) -> DataFrame:
    """Good rows of closed days whose events no day has, as rows of the `quarantine` table.

    Args:
        found: The log.
        days: Closed days of which the log holds something new.
        known: All impressions of the domain.
    """
    files = {fact.file for fact in found.facts if fact.event_date in set(days)}
    good = found.only(files).where(F.col("_reason").isNull() & F.col("event_date").isin(list(days)))
    late = good.join(known.select("event_id"), "event_id", "left_anti")
    return _as_quarantined(late.withColumn("_reason", F.lit(LATE)), found.domain)


def rows_of_day(found: Ingest, day: dt.date, reason: str) -> DataFrame:
    """All good rows of a day as rows of the `quarantine` table."""
    files = {fact.file for fact in found.facts if fact.event_date == day}
    good = found.only(files).where(F.col("_reason").isNull() & (F.col("event_date") == F.lit(day)))
    return _as_quarantined(good.withColumn("_reason", F.lit(reason)), found.domain)


def quarantined(found: Ingest, since: dt.date | None, until: dt.date) -> DataFrame:
    """Bad rows as rows of the `quarantine` table: those of the days, those without a day, those of files not seen before."""
    files = {
        fact.file
        for fact in found.facts
        if fact.reason is not None and (fact.file in found.fresh or _within(fact.event_date, since, until))
    }
    day = F.col("event_date")
    bad = found.only(files).where(F.col("_reason").isNotNull() & (day.isNull() | (day < F.lit(until))))
    return _as_quarantined(bad, found.domain)


def _as_quarantined(rows: DataFrame, domain: str) -> DataFrame:
    identity = F.concat_ws(SEPARATOR, F.lit(domain), "_reason", "_row")
    return rows.select(
        F.sha2(identity, 256).alias("row_id"),
        F.lit(domain).alias("domain"),
        F.col("_reason").alias("reason"),
        F.col("_row").alias("row"),
        "event_date",
        F.current_timestamp().alias("found_at"),
    ).dropDuplicates(["row_id"])


def impressions(
    found: Ingest, dataset: DatasetConfig, since: dt.date, until: dt.date, earlier: DataFrame | None
) -> DataFrame:
    """Good rows of the days `[since, until)`, each event once and labelled, laid out by day.

    Of rows with one event id the earliest is kept; at the same moment the clicked one; then the smallest by the
    values of the other columns in their order. What a day keeps never depends on a later one.

    Args:
        found: The log.
        dataset: The data set's configuration.
        since: First day.
        until: The day after the last; where clicks are joined, labels that are not mature by then are left out.
        earlier: Impressions of earlier days whose events must not come again; None where that is impossible.
    """
    files = {fact.file for fact in found.facts if fact.event_date and since <= fact.event_date < until}
    last = until - dt.timedelta(days=1)
    good = found.only(files).where(F.col("_reason").isNull() & F.col("event_date").between(since, last))
    good = good.drop("_reason", "_keys", "_row", FILE)
    others = [name for name in good.columns if name not in ("event_id", "event_time", "label", "event_date")]
    order = [F.col("event_time"), F.col("label").desc(), *(column(name) for name in others)]
    place = F.row_number().over(Window.partitionBy("event_id").orderBy(*order))
    once = good.withColumn("_place", place).where("_place = 1").drop("_place")
    if earlier is not None:
        once = once.join(earlier.select("event_id"), "event_id", "left_anti")
    key = SOURCE_KEYS[found.domain]
    clicks = getattr(dataset, key).clicks
    if clicks is not None:
        offset = clock.offset_micros(dataset.day_boundary)
        once = labelled(once, once.sparkSession, clicks, offset, until, f"dataset.{key}.clicks")
    slot = F.pmod(F.xxhash64("event_id"), F.lit(1 + found.largest_day() // ROWS_PER_FILE))
    return once.repartition("event_date", slot).sortWithinPartitions("event_date")


def _within(day: dt.date | None, since: dt.date | None, until: dt.date) -> bool:
    return day is None or ((since is None or day >= since) and day < until)


def _bad_rows(found: Ingest, since: dt.date | None, until: dt.date) -> DataFrame:
    day = F.col("event_date")
    inside = (day < F.lit(until)) & (F.lit(True) if since is None else day >= F.lit(since))
    return found.frame.where(F.col("_reason").isNotNull() & (day.isNull() | inside))


def _typed(log: DataFrame, dataset: DatasetConfig, columns: Columns, where: str) -> DataFrame:
    """The log in the types of impressions, with the first check that each row fails."""
    offset = clock.offset_micros(dataset.day_boundary)
    checks: list[tuple[str, Any]] = []
    micros = clock.event_micros(log, columns.time, offset, f"{where}.columns.time")
    out = {
        "event_id": _event_id(log, columns, where),
        "user_id": id_text(log, columns.user, where),
        "item_id": id_text(log, columns.item, where),
        "_micros": micros,
        "label": F.lit(None).cast("int") if columns.label is None else _label(log, columns.label, where),
    }
    checks += [
        (f"time ({columns.time.column}) is missing or unreadable", F.col("_micros").isNull()),
        (f"user ({columns.user}) is missing", F.col("user_id").isNull()),
        (f"item ({columns.item}) is missing", F.col("item_id").isNull()),
        (f"event id ({', '.join(columns.identity())}) is missing", F.col("event_id").isNull()),
    ]
    if columns.label is not None:
        checks.append((f"label ({columns.label}) is outside {{0, 1}}", F.col("label").isNull()))
    unread = []
    for name, kind in log_columns(dataset).items():
        if name in _FIXED:
            _refuse_fixed_name(name, columns, where)
            continue
        out[name] = id_text(log, name, where) if kind == "string" else _number(log, name, where)
        if kind == "double" and isinstance(log.schema[name].dataType, T.StringType):
            unread.append((f"{name} is no number", (F.trim(column(name)) != "") & out[name].isNull()))
    flags = [condition.alias(f"_unread_{place}") for place, (_, condition) in enumerate(unread)]
    keys = F.concat_ws(", ", *(_shown(name) for name in columns.identity()))
    typed = log.select(
        *(value.alias(name) for name, value in out.items()),
        *flags,
        keys.alias("_keys"),
        F.to_json(F.struct(*(column(name) for name in log.columns if name != FILE))).alias("_row"),
        FILE,
    )
    checks += [(reason, F.col(f"_unread_{place}")) for place, (reason, _) in enumerate(unread)]
    reason = F.coalesce(*(F.when(condition, F.lit(text)) for text, condition in checks))
    extra = [name for name in out if name not in ("event_id", "user_id", "item_id", "_micros", "label")]
    return typed.select(
        "event_id",
        "user_id",
        "item_id",
        F.timestamp_micros("_micros").alias("event_time"),
        F.date_from_unix_date(clock.day_number(F.col("_micros"), offset)).alias("event_date"),
        "label",
        *(column(name) for name in extra),
        reason.alias("_reason"),
        "_keys",
        "_row",
        FILE,
    )


def _shown(name: str) -> Any:
    return F.concat(F.lit(f"{name}="), F.coalesce(column(name).cast("string"), F.lit("null")))


def _number(log: DataFrame, name: str, where: str) -> Any:
    kind = log.schema[name].dataType
    if not isinstance(kind, T.NumericType | T.StringType | T.BooleanType):
        raise InputError(
            f"{where}: column {name!r} is {kind.simpleString()}, expected a number", hint="choose another column"
        )
    value = column(name)
    if isinstance(kind, T.StringType):
        return F.trim(value).try_cast("double")
    return value.cast("int").cast("double") if isinstance(kind, T.BooleanType) else value.cast("double")


def _label(log: DataFrame, name: str, where: str) -> Any:
    number = _number(log, name, where)
    return F.when(number.isin(0.0, 1.0), number.cast("int"))


def _event_id(log: DataFrame, columns: Columns, where: str) -> Any:
    """One column as it is; several as the first 128 bits of SHA-256 over their texts."""
    if len(columns.event_id) == 1:
        return id_text(log, columns.event_id[0], where)
    parts = [F.coalesce(column(name).cast("string"), F.lit("")) for name in columns.identity()]
    return F.substring(F.sha2(F.concat_ws(SEPARATOR, *parts), 256), 1, 32)


def _refuse_fixed_name(name: str, columns: Columns, where: str) -> None:
    """A feature may read `user_id` where that is the user; another column of such a name would be mistaken for it."""
    if {"user_id": columns.user, "item_id": columns.item}.get(name) != name:
        raise InputError(
            f"{where}: a feature reads the log's column {name!r}, a name that impressions use otherwise",
            hint="rename the column in the log",
        )
