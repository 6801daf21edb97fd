"""One domain's log → clean impressions: typed, checked, labelled, each once."""

import datetime as dt
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ecdctr.config.dataset import DatasetConfig
from ecdctr.etl import clock, contract
from ecdctr.etl.attribution import labelled
from ecdctr.etl.drift import comparable, refuse_drift
from ecdctr.etl.facts import Day, Fact, days_of, facts_of, look_at_delta, unchanged
from ecdctr.etl.negatives import with_negatives
from ecdctr.etl.source import FILE, KEYS_SHOWN, column, columns_used, open_source, reading
from ecdctr.etl.typed_rows import FIXED, typed_rows
from ecdctr.exceptions import InputError
from ecdctr.features.encoding import SEPARATOR
from ecdctr.features.feature_set import log_columns
from ecdctr.lake.schema import CLICKED_AT, Column
from ecdctr.lake.tables import Lake

logger = logging.getLogger(__name__)

SOURCE_KEYS = {"natural": "natural", "ad": "ads"}
ROWS_PER_FILE = 2_000_000


@dataclass(frozen=True)
class Ingest:
    """One domain's log, typed and looked through; nothing is written yet.

    Attributes:
        domain: natural or ad.
        frame: Impressions with `_reason` (null: good), `_keys`, `_row` and the file that they come from.
        facts: What the files hold.
        fresh: Files that were not looked through before.
        files: All files.
        part: Gives the rows of some files of `frame` without opening the others; None where Spark's own filter does.
    """

    domain: str
    frame: DataFrame
    facts: tuple[Fact, ...]
    fresh: frozenset[str]
    files: frozenset[str] = frozenset()
    part: Callable[[Collection[str]], DataFrame] | None = None

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
        return {key: count for key, count in counts.items() if count}

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

        def kept(rows: DataFrame) -> DataFrame:
            return rows.where(~F.col("event_date").isin(left_out) | F.col("event_date").isNull())

        part = self.part
        return replace(
            self,
            frame=kept(self.frame),
            facts=tuple(fact for fact in self.facts if fact.event_date not in left_out),
            part=None if part is None else lambda files: kept(part(files)),
        )

    def only(self, files: Iterable[str]) -> DataFrame:
        """The frame's rows that come from some of its files, or from files of which nothing is known."""
        wanted, known = set(files), {fact.file for fact in self.facts}
        if self.part is None:
            return self.frame if wanted >= known else self.frame.where(F.col(FILE).isin(sorted(wanted)))
        wanted = (wanted & self.files) | (self.files - known)
        return self.frame if wanted == self.files else self.part(sorted(wanted))


def extra_columns(dataset: DatasetConfig, domain: str) -> list[Column]:
    """The columns of a domain's impressions that features are made from."""
    types, required = log_columns(dataset.features), contract.required(dataset, domain)
    return [
        *([CLICKED_AT] if getattr(dataset, SOURCE_KEYS[domain]).clicks is not None else []),
        *(
            Column(name, kind, f"column {name} of the log", nullable=name not in required)
            for name, kind in types.items()
            if name not in FIXED
        ),
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

    def typed(rows: DataFrame) -> DataFrame:
        columns = dataset.columns_of(source)
        if source.negatives is not None:
            rows = with_negatives(rows, source.negatives, columns, dataset, f"dataset.{key}")
        return typed_rows(rows, dataset, columns, domain, f"dataset.{key}")

    frame = typed(log.frame)
    # Made-up rows depend on all clicks of their day, in whatever file these are.
    by_part = log.delta is not None and source.negatives is None
    with reading(f"dataset.{key}", source.path):
        if by_part:
            facts, fresh = look_at_delta(log, typed, known, f"dataset.{key}")
        else:
            facts, fresh = unchanged(known, log.stamps)
            if fresh:
                if comparable(source.path, source.format):
                    used, expressions = columns_used(dataset, source)
                    refuse_drift(
                        source.format, source.schema_drift, f"dataset.{key}", log.stamps, fresh, used, expressions
                    )
                unseen = frame.where(F.col(FILE).isin(sorted(fresh))) if facts else frame
                facts += facts_of(unseen, fresh, log.stamps)
    if not any(fact.rows for fact in facts):
        condition = f" where {source.where}" if source.where else ""
        raise InputError(f"dataset.{key}: {source.path}{condition} has no rows", hint="check path and condition")
    part = (lambda files: typed(log.rows_of(files))) if by_part else None
    return Ingest(domain, frame, tuple(facts), frozenset(fresh), frozenset(log.stamps), part)


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


def earlier_events(lake: Lake, dataset: DatasetConfig, domain: str, since: dt.date) -> DataFrame | None:
    """Impressions before `since`, whose events must not come again; None where that is impossible.

    Where the time is part of the identity, an event of another day is another event.
    """
    name = f"{domain}_impressions"
    columns = dataset.columns_of(getattr(dataset, SOURCE_KEYS[domain]))
    if columns.time.column in columns.identity() or not lake.exists(name) or not lake.snapshot(name).files:
        return None
    return lake.read(name).where(F.col("event_date") < F.lit(since))


def clean_impressions(
    found: Ingest,
    dataset: DatasetConfig,
    since: dt.date,
    until: dt.date,
    earlier: DataFrame | None,
    as_of: dt.date | None = None,
) -> DataFrame:
    """Good rows of the days `[since, until)`, each event once and labelled.

    Of rows with one event id the earliest is kept; at the same moment the clicked one; then the smallest by the
    values of the other columns in their order. What a day keeps never depends on a later one.

    Args:
        found: The log.
        dataset: The data set's configuration.
        since: First day.
        until: The day after the last.
        earlier: Impressions of earlier days whose events must not come again; None where that is impossible.
        as_of: Clicks on this day or later are not known, and rows whose labels are not mature by then left out; by default
            `until`.
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
    if clicks is None:
        return once
    return labelled(
        once,
        once.sparkSession,
        clicks,
        clock.offset_micros(dataset.day_boundary),
        as_of or until,
        f"dataset.{key}.clicks",
    )


def by_day(found: Ingest, rows: DataFrame) -> DataFrame:
    """Clean impressions of a log, laid out as their table has them: whole days, in files that are not too large."""
    slot = F.pmod(F.xxhash64("event_id"), F.lit(1 + found.largest_day() // ROWS_PER_FILE))
    return rows.repartition("event_date", slot).sortWithinPartitions("event_date")


def _within(day: dt.date | None, since: dt.date | None, until: dt.date) -> bool:
    return day is None or ((since is None or day >= since) and day < until)


def _bad_rows(found: Ingest, since: dt.date | None, until: dt.date) -> DataFrame:
    day = F.col("event_date")
    inside = (day < F.lit(until)) & (F.lit(True) if since is None else day >= F.lit(since))
    return found.frame.where(F.col("_reason").isNotNull() & (day.isNull() | inside))
