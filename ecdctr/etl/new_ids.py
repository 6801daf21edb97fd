"""Which part of each new day's rows has a user, or an item, without an id of its own."""

import datetime as dt
import functools
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ecdctr.config import Config
from ecdctr.etl.ingest import Ingest
from ecdctr.etl.shuffles import merged_if_many, shuffles_of
from ecdctr.etl.tokens import token
from ecdctr.etl.vocabulary import open_vocabularies, with_totals
from ecdctr.features.columns import ITEM, USER
from ecdctr.lake.tables import Lake

FIELDS = (USER, ITEM)


def new_id_shares(
    lake: Lake, config: Config, found: Mapping[str, Ingest], new: Sequence[dt.date]
) -> dict[tuple[str, dt.date, str], float]:
    """Shares of rows whose user, or item, has no id yet, on all new days, in one pass over their rows.

    A token has an id if the vocabulary knows it, or from the day after the one on which the new days before would have admitted
    it, had they been prepared one by one. What such a token's impressions before the first new day count is not looked up.

    Args:
        lake: The tables.
        config: The configuration.
        found: The logs.
        new: Days that no table has yet, ascending.

    Returns:
        The share by domain, day and field; nothing of days on which no token can have an id.
    """
    if not new:
        return {}
    known = lake.snapshot("vocabulary").rows if lake.exists("vocabulary") else 0
    first = new[0] if known else new[0] + dt.timedelta(days=config.dataset.late_window + 1)
    rows = {
        (domain, day): log.rows[day] for domain, log in found.items() for day in new if day >= first and day in log.days
    }
    if not rows:
        return {}
    counts = _counts(config, found, new)
    if known:
        field = F.when(F.col("field") == USER, 0).when(F.col("field") == ITEM, 1)
        words = lake.read("vocabulary").select(field.alias("v"), "token")
        counts = counts.join(merged_if_many(words, known), ["v", "token"], "left_anti")
    fresh = _with_admission(counts, config).where(
        F.col("admitted").isNull() | (F.unix_date("event_date") <= F.col("admitted"))
    )
    shares = {(domain, day, field): 0.0 for domain, day in rows for field in FIELDS}
    with shuffles_of(lake.spark, len(FIELDS) * sum(rows.values()) + known):
        for row in fresh.groupBy("domain", "event_date", "v").agg(F.sum("count").alias("n")).collect():
            key = row["domain"], row["event_date"], FIELDS[row["v"]]
            if key in shares:
                shares[key] = row["n"] / rows[key[:2]]
    return shares


def _counts(config: Config, found: Mapping[str, Ingest], new: Sequence[dt.date]) -> DataFrame:
    """Rows by v (place among `FIELDS`), token, day and domain."""
    frames = []
    for domain, log in found.items():
        files = {fact.file for fact in log.facts if fact.event_date in new}
        good = log.only(files).where(F.col("_reason").isNull() & F.col("event_date").isin(list(new)))
        pairs = []
        for place, name in enumerate(FIELDS):
            mark = None if config.vocabulary(name).share_domains else domain
            pairs.append(F.struct(F.lit(place).alias("v"), token([name], mark).alias("token")))
        frames.append(good.select(F.lit(domain).alias("domain"), "event_date", F.inline(F.array(*pairs))))
    rows = functools.reduce(DataFrame.unionByName, frames)
    return rows.groupBy("v", "token", "event_date", "domain").count()


def _with_admission(counts: DataFrame, config: Config) -> DataFrame:
    """Adds the day on which a token is admitted by its rows of the new days, since 1970; null where it is not."""
    vocabularies = {vocabulary.name: vocabulary for vocabulary in open_vocabularies(config)}
    summed = with_totals(counts, [vocabularies[name] for name in FIELDS])
    earned = F.when(F.col("total") >= F.col("needed"), F.unix_date("event_date"))
    first = F.min(earned).over(Window.partitionBy("v", "token"))
    return summed.withColumn("admitted", first + config.dataset.late_window)
