"""Labels from a log of clicks: which impression each click belongs to, and which impressions are old enough to tell."""

import datetime as dt
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ecdctr.config.dataset import Clicks
from ecdctr.etl import clock
from ecdctr.etl.source import column, id_text, read_clicks
from ecdctr.lake.schema import CLICKED_AT


def labelled(
    impressions: DataFrame, spark: SparkSession, clicks: Clicks, offset: int, until: dt.date, where: str
) -> DataFrame:
    """Impressions with a mature label.

    A click belongs to the latest impression at or before it of the same user and item (of two at one moment, the one
    with the greater event id), or to the impression whose event id it names; it counts if it happened in
    `[impression, impression + window)`. Impressions whose window has not ended when `until` begins are left out. A
    click without the columns that lead to an impression, or without a readable time, belongs to none.

    Args:
        impressions: Each event once, `label` being null.
        spark: The session.
        clicks: The log of clicks.
        offset: Offset of the data set's clock, in microseconds.
        until: The logical date: nothing at or after it is known.
        where: Key of the configuration, for errors.

    Returns:
        The impressions and `clicked_at`, the time of the first such click.

    Raises:
        InputError: The log of clicks does not fit the mapping.
    """
    columns, window = clicks.columns, clicks.window * clock.SECOND
    end = (until - clock.EPOCH).days * clock.DAY - offset
    log, names = read_clicks(spark, clicks, where), columns.leading()
    keys: list[Any] = [id_text(log, name, where).alias(f"_key_{place}") for place, name in enumerate(names.values())]
    micros = clock.event_micros(log, columns.time, offset, f"{where}.columns.time")
    events = log.select(*keys, micros.alias("_micros"), F.lit(1).alias("_click"))
    events = events.where(F.col("_micros").isNotNull() & (F.col("_micros") < end)).dropna()
    shown = impressions.withColumns(
        {f"_key_{place}": column(name) for place, name in enumerate(names)}
        | {"_micros": F.unix_micros("event_time"), "_click": F.lit(0)}
    )
    order = Window.partitionBy(*(f"_key_{place}" for place in range(len(keys)))).orderBy(
        "_micros", "_click", "event_id"
    )
    # Clicks stand right behind the impression that they belong to: the next row tells.
    after = F.lead("_micros").over(order)
    soon = (F.lead("_click").over(order) == 1) & (after - F.col("_micros") < window)
    merged = shown.unionByName(events, allowMissingColumns=True)
    judged = merged.withColumns(
        {
            "label": F.coalesce(soon, F.lit(False)).cast("int"),
            CLICKED_AT.name: F.when(soon, F.timestamp_micros(after)),
        }
    )
    mature = (F.col("_click") == 0) & (F.col("_micros") + window <= end)
    return judged.where(mature).select(*(column(name) for name in impressions.columns), CLICKED_AT.name)
