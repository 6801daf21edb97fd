"""Rows without a click for a log of clicks alone: items that others clicked on the same day, by popularity.

A day's items share `SLOTS` slots by their clicks, in the order of a hash; a made row takes the item of the slot that a hash
of its click names. So a day's rows depend on that day alone, a repetition makes the same ones, and the work grows with
clicks, not with clicks times items. An item with less than a slot's share is drawn by luck of that order, or not at all.
"""

from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ecdctr.config.dataset import Columns, DatasetConfig, MadeNegatives
from ecdctr.etl import clock
from ecdctr.etl.source import column, id_text, require_columns

SLOTS = 1 << 16


def with_negatives(
    clicks: DataFrame, made: MadeNegatives, columns: Columns, dataset: DatasetConfig, where: str
) -> DataFrame:
    """The clicks and, for each, some rows of the same user and moment with another item and label 0.

    Args:
        clicks: A log in which every row is a click.
        made: How many, and what comes with an item.
        columns: Which columns mean what.
        dataset: For its clock.
        where: Key of the configuration, for errors.

    Raises:
        InputError: A column is missing, or the one that names the event has a type that ids lose their value in.
    """
    assert columns.label is not None
    require_columns(clicks, [columns.label, *columns.identity(), *made.item_columns], where)
    event = columns.event_id[0] if len(columns.event_id) == 1 else None
    if event is not None and not isinstance(clicks.schema[event].dataType, T.StringType):
        # Names of made rows are text, and those of clicks stand in one column with them.
        clicks = clicks.withColumn(event, id_text(clicks, event, where))
    offset = clock.offset_micros(dataset.day_boundary)
    day = clock.day_number(clock.event_micros(clicks, columns.time, offset, f"{where}.columns.time"), offset)
    slots = _slots(clicks.withColumn("_day", day), columns.item, made.item_columns)
    identity = [F.coalesce(column(name).cast("string"), F.lit("")) for name in columns.identity()]
    drawn = clicks.withColumn("_day", day).withColumn("_draw", F.explode(F.sequence(F.lit(1), F.lit(made.per_click))))
    drawn = drawn.withColumn("_slot", F.pmod(F.xxhash64(*identity, "_draw"), F.lit(SLOTS)))
    drawn = drawn.join(slots, ["_day", "_slot"]).where(F.col("_item.item") != column(columns.item))
    replaced: dict[str, Any] = {columns.item: F.col("_item.item"), columns.label: F.lit(0)}
    replaced |= {name: F.col(f"_item.c{place}") for place, name in enumerate(made.item_columns)}
    # A column that alone names the event names the click; its made rows get names of their own, if it has one.
    if event is not None:
        replaced[event] = F.when(column(event) != "", F.concat_ws("-", column(event), F.lit("made"), "_draw"))
    rows = drawn.select(*(replaced.get(name, column(name)).alias(name) for name in clicks.columns))
    return clicks.unionByName(rows)


def _slots(clicks: DataFrame, item: str, item_columns: list[str]) -> DataFrame:
    """Which item a day's slot belongs to: _day, _slot, _item."""
    described = F.struct(
        column(item).alias("item"), *(column(name).alias(f"c{place}") for place, name in enumerate(item_columns))
    )
    by_item = clicks.where(column(item).isNotNull()).groupBy("_day", column(item).alias("_name"))
    counted = by_item.agg(F.count("*").alias("clicks"), F.max(described).alias("_item"))
    order = Window.partitionBy("_day").orderBy(F.xxhash64(F.col("_name").cast("string")), "_name")
    total = F.sum("clicks").over(Window.partitionBy("_day"))
    end = F.sum("clicks").over(order.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    shares = counted.select(
        "_day", "_item", (end - F.col("clicks")).alias("begin"), end.alias("end"), total.alias("total")
    )
    # Slot s stands at share s / SLOTS: it belongs to the item whose clicks reach from at or below it to above it.
    first, last = (F.ceil(F.col(edge) * SLOTS / F.col("total")) for edge in ("begin", "end"))
    return shares.where(first < last).select("_day", "_item", F.explode(F.sequence(first, last - 1)).alias("_slot"))
