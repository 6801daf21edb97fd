"""Which tokens have an embedding of their own, from which day on, and under which id.

A token has earned its place on the first day on which its impressions so far, that day included, or those of the vocabulary's
window that ends with that day, reach the minimum, and is admitted `late_window` days later: when that day is closed, so that no late row changes what was decided.
Each day of admission opens a block common to all buckets, and within it ids go by bucket and token: the same ids come
out whether days are prepared one by one or all together, and no later day changes them.
"""

import bisect
import datetime as dt
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row, SparkSession, Window, WindowSpec
from pyspark.sql import functions as F

from ecdctr.config import Config
from ecdctr.config.vocabularies import VocabularyConfig
from ecdctr.etl.shuffles import merged_if_many, shuffles_of
from ecdctr.etl.tokens import bucket, token, tokens
from ecdctr.features.columns import TokenSource
from ecdctr.features.encoding import first_token_id, rows_after_blocks
from ecdctr.features.feature_set import FeatureSet, token_sources
from ecdctr.lake.frames import local_frame
from ecdctr.lake.schema import DOMAINS
from ecdctr.lake.tables import Lake, Txn

logger = logging.getLogger(__name__)

TABLE = "vocabulary"
ROWS_PER_SORT = 5_000_000
"""Impressions of the new days, or tokens, up to which one task orders the tokens of a vocabulary."""


@dataclass(frozen=True)
class HighWaterMarks:
    """Table rows of each vocabulary as they grew.

    Attributes:
        marks: For each vocabulary, ascending days of admission and the rows after each.
        features: The sample contract.
    """

    marks: Mapping[str, tuple[list[dt.date], list[int]]]
    features: FeatureSet

    def rows_until(self, date: dt.date) -> dict[str, int]:
        """Rows of each vocabulary as known from days strictly before `date`."""
        return {name: self._rows(name, date) for name in self.features.vocabularies}

    def _rows(self, name: str, date: dt.date) -> int:
        if name in self.features.fixed_rows:
            return self.features.fixed_rows[name]
        days, rows = self.marks.get(name, ([], []))
        place = bisect.bisect_left(days, date)
        return rows[place - 1] if place else rows_after_blocks(0, self.features.oov_buckets[name])


def high_water_marks(lake: Lake, features: FeatureSet) -> HighWaterMarks:
    """Read the marks from the vocabulary table: one aggregate over it, one row per vocabulary and day on the driver."""
    marks: dict[str, tuple[list[dt.date], list[int]]] = {}
    if lake.exists(TABLE):
        grown = lake.read(TABLE).groupBy("field", "admitted").agg(F.max("id").alias("last")).orderBy("admitted")
        for row in grown.collect():
            buckets = features.oov_buckets.get(row["field"], 1)
            days, rows = marks.setdefault(row["field"], ([], []))
            days.append(row["admitted"])
            grown_to = rows_after_blocks((row["last"] - first_token_id(buckets)) // buckets + 1, buckets)
            rows.append(max(grown_to, rows[-1] if rows else 0))
    return HighWaterMarks(marks, features)


@dataclass(frozen=True)
class OpenVocabulary:
    """An open vocabulary: where its tokens come from, and its rules."""

    name: str
    sources: list[TokenSource]
    rules: VocabularyConfig


def open_vocabularies(config: Config) -> list[OpenVocabulary]:
    """The vocabularies that grow, in order of first use."""
    sources: dict[str, list[TokenSource]] = {}
    for source in token_sources(config.dataset.features).values():
        sources.setdefault(source.vocabulary, []).append(source)
    return [OpenVocabulary(name, found, config.vocabulary(name)) for name, found in sources.items()]


def grow(
    lake: Lake,
    config: Config,
    features: FeatureSet,
    since: dt.date,
    until: dt.date,
    txn: Txn | None = None,
    note: str | None = None,
) -> int:
    """Admit the tokens that earned it on the days `[since, until)`, which are closed.

    Args:
        lake: Tables with the impressions of all days before `until`.
        config: The configuration.
        features: The sample contract.
        since: First new day.
        until: The day after the last.
        txn: Makes a repetition harmless.
        note: Kept with the commit.

    Returns:
        Tokens admitted.
    """
    lake.create(TABLE)
    if since >= until:
        return 0
    vocabularies = open_vocabularies(config)
    first = _first_counted(vocabularies, since)
    with shuffles_of(lake.spark, _rows(lake, first, until) + _rows_known(lake)):
        counts = _counts(lake, vocabularies, first, since, until)
        admitted = _admitted(counts, vocabularies, since, config.dataset.late_window)
        with _placed(admitted, vocabularies, _rows(lake, since, until) > ROWS_PER_SORT) as placed:
            blocks = _blocks(placed)
            if not blocks:
                return 0
            starts = _starts(high_water_marks(lake, features), vocabularies, blocks)
            rows = _with_ids(lake.spark, placed, starts, vocabularies)
            tokens = sum(int(row["n"]) for row in blocks)
            lake.append(TABLE, _written(rows, tokens), txn, note)
            return tokens


def renew(lake: Lake, config: Config, features: FeatureSet, until: dt.date, txn: Txn, note: str) -> int:
    """Deal all ids anew, without the tokens that have expired, in one commit; gives the number of dropped tokens.

    What is known of a token stays, its day of admission included, so that each day's samples know what they knew. A
    dropped token is admitted again on the first later day that it is seen, if all its impressions count or suffice.

    Args:
        lake: Tables of all days before `until`.
        config: The configuration.
        features: The sample contract.
        until: The day after the last prepared one, from which days without a token are counted back.
        txn: Makes a repetition harmless.
        note: Kept with the commit.
    """
    vocabularies = open_vocabularies(config)
    kept = _with_expiry(lake, vocabularies, lake.read(TABLE), until).where(~F.col("expired"))
    kept = kept.withColumn("last_seen", F.greatest("last_seen", "seen")).drop("seen", "expired")
    before = _rows_known(lake)
    with (
        shuffles_of(lake.spark, before),
        _placed(kept.drop("field", "id"), vocabularies, before > ROWS_PER_SORT) as placed,
    ):
        blocks = _blocks(placed)
        starts = _starts(HighWaterMarks({}, features), vocabularies, blocks)
        rows = _with_ids(lake.spark, placed, starts, vocabularies)
        tokens = sum(int(row["n"]) for row in blocks)
        lake.replace_all(TABLE, _written(rows, tokens), txn, note)
        return before - tokens


def expired_ids(lake: Lake, config: Config, date: dt.date) -> DataFrame:
    """Tokens that have their own id on `date` and were not seen in the `expire_after` days before: field, id."""
    known = lake.read(TABLE).where(F.col("admitted") < F.lit(date))
    return _with_expiry(lake, open_vocabularies(config), known, date).where("expired").select("field", "id")


def _with_expiry(lake: Lake, vocabularies: list[OpenVocabulary], known: DataFrame, until: dt.date) -> DataFrame:
    """Rows of the vocabulary with `v`, the last day `seen` within the longest limit before `until`, and `expired`."""
    places = F.create_map(*(F.lit(x) for place, v in enumerate(vocabularies) for x in (v.name, place)))
    rows = known.withColumn("v", places[F.col("field")])
    limits = {place: v.rules.expire_after for place, v in enumerate(vocabularies) if v.rules.expire_after is not None}
    if not limits:
        return rows.withColumns({"seen": F.lit(None).cast("date"), "expired": F.lit(False)})
    start = until - dt.timedelta(days=max(limits.values()))
    seen = _tokens(lake, vocabularies, start, until).where(F.col("v").isin(list(limits)))
    seen = seen.groupBy("v", "token").agg(F.max("event_date").alias("seen"))
    first = F.coalesce(
        *(F.when(F.col("v") == place, F.lit(until - dt.timedelta(days=days))) for place, days in limits.items())
    )
    gone = first.isNotNull() & (F.col("seen").isNull() | (F.col("seen") < first))
    return rows.join(seen, ["v", "token"], "left").withColumn("expired", gone)


def _tokens(lake: Lake, vocabularies: list[OpenVocabulary], since: dt.date | None, until: dt.date) -> DataFrame:
    """One row per impression and token: v (place of the vocabulary), token, event_date."""
    frames = []
    for domain in DOMAINS:
        table = lake.read(f"{domain}_impressions").where(F.col("event_date") < F.lit(until))
        if since is not None:
            table = table.where(F.col("event_date") >= F.lit(since))
        pairs, lists = [], []
        for place, vocabulary in enumerate(vocabularies):
            mark = None if vocabulary.rules.share_domains else domain
            for source in vocabulary.sources:
                if source.separator is None:
                    pairs.append(_pair(place, token(source.columns, mark)))
                else:
                    several = tokens(source.columns[0], source.separator, mark)
                    lists.append(F.transform(F.coalesce(several, F.array()), partial(_pair, place)))
        listed = F.concat(F.array(*pairs), *lists)
        if lists or any(len(vocabulary.sources) > 1 for vocabulary in vocabularies):
            listed = F.array_distinct(listed)
        frames.append(table.select("event_date", F.explode(listed).alias("t")).select("t.v", "t.token", "event_date"))
    return frames[0].unionByName(frames[1]).where("token IS NOT NULL")


def _pair(place: int, text: Any) -> Any:
    return F.struct(F.lit(place).alias("v"), text.alias("token"))


def _first_counted(vocabularies: list[OpenVocabulary], since: dt.date) -> dt.date | None:
    """The first day whose impressions count towards an admission from `since` on; None: the first of all."""
    windows = [vocabulary.rules.window for vocabulary in vocabularies]
    if None in windows:
        return None
    return since - dt.timedelta(days=max(window for window in windows if window is not None) - 1)


def _counts(
    lake: Lake, vocabularies: list[OpenVocabulary], first: dt.date | None, since: dt.date, until: dt.date
) -> DataFrame:
    """Impressions by token and day, from the first day that counts on, for tokens of the new days not yet admitted."""
    tokens = _tokens(lake, vocabularies, first, until)
    known = _rows_known(lake)
    if known:
        new = _tokens(lake, vocabularies, since, until).select("v", "token").distinct()
        unknown = new.join(merged_if_many(_known(lake, vocabularies), known), ["v", "token"], "left_anti")
        tokens = tokens.join(merged_if_many(unknown, _rows(lake, since, until)), ["v", "token"], "left_semi")
    return tokens.groupBy("v", "token", "event_date").count()


def _known(lake: Lake, vocabularies: list[OpenVocabulary]) -> DataFrame:
    places = F.create_map(*(F.lit(x) for place, v in enumerate(vocabularies) for x in (v.name, place)))
    return lake.read(TABLE).select(places[F.col("field")].alias("v"), "token")


def with_totals(counts: DataFrame, vocabularies: Sequence[OpenVocabulary]) -> DataFrame:
    """Adds what each token has by the end of each of its days, and what it needs for an id of its own.

    Args:
        counts: v (place of the vocabulary), token, event_date, count; perhaps several rows of one day.
        vocabularies: In order of v.

    Returns:
        With `total` impressions in the vocabulary's window up to the day, the `first_seen` day of these, and `needed`.
    """
    token = Window.partitionBy("v", "token")
    if all(v.rules.window is None for v in vocabularies):
        summed = counts.withColumns(_so_far(token.orderBy("event_date")))
    else:
        summed = counts.withColumn("_day", F.unix_date("event_date"))
        summed = summed.withColumns(_within_windows(token.orderBy("_day"), vocabularies)).drop("_day")
    needed = F.array(*(F.lit(v.rules.min_count) for v in vocabularies))
    return summed.withColumn("needed", F.element_at(needed, F.col("v") + 1))


def _admitted(counts: DataFrame, vocabularies: list[OpenVocabulary], since: dt.date, late_window: int) -> DataFrame:
    """One row per admitted token: v, token, first_seen, last_seen, count, admitted."""
    summed = with_totals(counts, vocabularies)
    reached = F.col("total") >= F.col("needed")
    if all(v.rules.window is None for v in vocabularies):
        # Sums that only grow pass the minimum once.
        earned = summed.where(reached & (F.col("total") - F.col("count") < F.col("needed")))
    else:
        first = F.min(F.when(reached, F.col("event_date"))).over(Window.partitionBy("v", "token"))
        earned = summed.withColumn("_first", first).where(F.col("event_date") == F.col("_first"))
    return earned.select(
        "v",
        "token",
        "first_seen",
        F.col("event_date").alias("last_seen"),
        F.col("total").alias("count"),
        # A day before the new ones has its block already; a token that should have been in it comes into the first new one.
        F.date_add(F.greatest("event_date", F.lit(since)), late_window).alias("admitted"),
    )


def _so_far(days: WindowSpec) -> dict[str, Any]:
    return {"total": F.sum("count").over(days), "first_seen": F.first("event_date").over(days)}


def _within_windows(days: WindowSpec, vocabularies: Sequence[OpenVocabulary]) -> dict[str, Any]:
    """Impressions, and the first day, of the window that ends with each row's day, by each vocabulary's own length."""
    of_window: dict[int | None, list[int]] = {}
    for place, vocabulary in enumerate(vocabularies):
        of_window.setdefault(vocabulary.rules.window, []).append(place)
    parts: dict[str, list[Any]] = {"total": [], "first_seen": []}
    for window, places in of_window.items():
        frame = days if window is None else days.rangeBetween(1 - window, Window.currentRow)
        for name, value in _so_far(frame).items():
            parts[name].append(F.when(F.col("v").isin(places), value))
    return {name: F.coalesce(*values) for name, values in parts.items()}


@contextmanager
def _placed(admitted: DataFrame, vocabularies: list[OpenVocabulary], many: bool) -> Iterator[DataFrame]:
    """Keeps the tokens for a block, with the bucket and the 1-based place within vocabulary, day and bucket.

    One task orders each of these groups; where there are `many` rows, all tasks order a range of tokens each, and the
    places of a range begin where the ranges before it end. Both ways give the same places.
    """
    buckets = F.element_at(F.array(*(F.lit(v.rules.oov_buckets) for v in vocabularies)), F.col("v") + 1)
    rows = admitted.withColumn("bucket", bucket(F.col("token"), buckets))
    group = ["v", "admitted", "bucket"]
    if many:
        # What is read once from its start to its end is not worth the memory that sorting needs.
        numbered = _numbered(rows, group).persist(StorageLevel.DISK_ONLY)
        begun = _begun(numbered, group).persist()
        kept, placed = [numbered, begun], _from_ranges(numbered, begun, group)
    else:
        order = Window.partitionBy(*group).orderBy("token")
        placed = rows.withColumn("place", F.row_number().over(order)).persist()
        kept = [placed]
    try:
        yield placed
    finally:
        for frame in kept:
            frame.unpersist()


def _numbered(rows: DataFrame, group: list[str]) -> DataFrame:
    """Adds which range of tokens a row is in, and a number that ascends by one within it.

    It must be kept: the ranges are cut by a sample, which another pass would draw anew.
    """
    ranged = rows.repartitionByRange(*group, "token").sortWithinPartitions(*group, "token")
    return ranged.withColumns({"_range": F.spark_partition_id(), "_number": F.monotonically_increasing_id()})


def _begun(numbered: DataFrame, group: list[str]) -> DataFrame:
    """For each range and group the number of its first row, and how many rows of the group the ranges before it have."""
    ranges = numbered.groupBy("_range", *group).agg(F.min("_number").alias("_first"), F.count("*").alias("_rows"))
    before = Window.partitionBy(*group).orderBy("_range").rowsBetween(Window.unboundedPreceding, -1)
    return ranges.withColumn("_before", F.coalesce(F.sum("_rows").over(before), F.lit(0))).drop("_rows")


def _from_ranges(numbered: DataFrame, begun: DataFrame, group: list[str]) -> DataFrame:
    """The places of all rows: those of a range begin where the ranges before it end."""
    place = F.col("_number") - F.col("_first") + F.col("_before") + 1
    joined = numbered.join(F.broadcast(begun), ["_range", *group])
    return joined.withColumn("place", place).drop("_range", "_number", "_first", "_before")


def _blocks(placed: DataFrame) -> list[Row]:
    """Of each vocabulary and day of admission: v, admitted, the blocks that its tokens fill, and how many tokens `n`."""
    return placed.groupBy("v", "admitted").agg(F.max("place").alias("blocks"), F.count("*").alias("n")).collect()


def _rows(lake: Lake, since: dt.date | None, until: dt.date) -> int:
    """Impressions of the days `[since, until)`, by the tables' logs."""
    tables = [lake.snapshot(f"{domain}_impressions").files for domain in DOMAINS]
    days = [(file.event_date, file.rows) for files in tables for file in files if file.event_date]
    return sum(rows for day, rows in days if (since is None or day >= since) and day < until)


def _rows_known(lake: Lake) -> int:
    return sum(file.rows for file in lake.snapshot(TABLE).files)


def _written(rows: DataFrame, tokens: int) -> DataFrame:
    """One file per vocabulary, or several where there are many tokens; by id."""
    dealt = rows.repartitionByRange("field", "id") if tokens > ROWS_PER_SORT else rows.repartition("field")
    return dealt.sortWithinPartitions("field", "id")


def _starts(
    marks: HighWaterMarks, vocabularies: list[OpenVocabulary], blocks: list[Row]
) -> list[tuple[int, dt.date, int]]:
    """First block of each vocabulary and day of `_blocks`."""
    starts = []
    following: dict[int, int] = {}
    for v, day, count in sorted((row["v"], row["admitted"], row["blocks"]) for row in blocks):
        name, buckets = vocabularies[v].name, vocabularies[v].rules.oov_buckets
        if v not in following:
            rows = marks.marks.get(name, ([], [first_token_id(buckets)]))[1][-1]
            following[v] = (rows - first_token_id(buckets)) // buckets
        starts.append((v, day, following[v]))
        following[v] += count
    return starts


def _with_ids(
    spark: SparkSession, placed: DataFrame, starts: list[tuple[int, dt.date, int]], vocabularies: list[OpenVocabulary]
) -> DataFrame:
    table = local_frame(spark, starts, "v int, admitted date, start bigint")
    names = F.element_at(F.array(*(F.lit(v.name) for v in vocabularies)), F.col("v") + 1)
    buckets = F.element_at(F.array(*(F.lit(v.rules.oov_buckets) for v in vocabularies)), F.col("v") + 1)
    block = F.col("start") + F.col("place") - 1
    joined = placed.join(F.broadcast(table), ["v", "admitted"])
    return joined.select(
        names.alias("field"),
        "token",
        (F.lit(2) + buckets + F.col("bucket") + buckets * block).cast("bigint").alias("id"),
        "first_seen",
        "last_seen",
        "count",
        "admitted",
    )
