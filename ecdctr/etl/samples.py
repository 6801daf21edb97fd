"""Encoded samples in the layout that readers shard evenly: equal lanes of files, each day in its order."""

import datetime as dt
from typing import Any, Literal

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ecdctr.config import Config
from ecdctr.etl.encode import encode
from ecdctr.etl.lane_keys import lane_keys
from ecdctr.etl.scene import Scene, Vocabularies
from ecdctr.etl.sequences import click_lists, clicks, with_sequences
from ecdctr.features.feature_set import FeatureSet
from ecdctr.lake.schema import Column
from ecdctr.lake.tables import Lake

LANE = "_lane"
ORDER = "_order"
ROWS_PER_SORT = 2_000_000
"""Rows of a day up to which one task orders it; larger days are ordered in parts."""


def sample_columns(features: FeatureSet) -> list[Column]:
    """The columns of samples that the features add."""
    return [
        *(Column(name, "bigint", f"encoded {name}") for name in features.id_fields),
        *(Column(name, "float", f"number {name}") for name in features.number_fields),
        *(Column(name, "array<bigint>", f"{n} encoded ids") for name, n in features.sequence_fields.items()),
    ]


def samples(lake: Lake, config: Config, features: FeatureSet, domain: str, since: dt.date, until: dt.date) -> DataFrame:
    """The samples of one domain for the days `[since, until)`, partitioned and ordered for writing.

    Args:
        lake: Tables with impressions and vocabulary of all days before `until`.
        config: The configuration.
        features: The sample contract.
        domain: natural or ad.
        since: First day.
        until: The day after the last.
    """
    scene = Scene(lake, config, domain, since, until, Vocabularies(lake, until))
    rows = encode(scene, features)
    rows = rows.withColumns(
        {
            "day": F.unix_date("event_date"),
            "label": F.col("label").cast("float"),
            "weight": F.when(F.col("label") == 1, 1.0).otherwise(1.0 / scene.negatives_kept).cast("float"),
            ORDER: _order(config.dataset.sample_order),
        }
    )
    rows = _with_lane(rows, config.lanes, _largest_day(lake, f"{domain}_impressions"))
    if click_lists(config):
        rows = with_sequences(rows, clicks(scene), config)
    names = ["event_id", "user", "event_date", "day", "label", "weight", *features.columns]
    dealt = rows.repartition(config.lanes, LANE)
    return dealt.sortWithinPartitions("event_date", ORDER, "event_id").select(names)


def _order(order: Literal["shuffled", "time"]) -> Any:
    return F.xxhash64("event_id") if order == "shuffled" else F.unix_micros("event_time")


def _largest_day(lake: Lake, name: str) -> int:
    rows: dict[dt.date | None, int] = {}
    for file in lake.snapshot(name).files:
        rows[file.event_date] = rows.get(file.event_date, 0) + file.rows
    return max(rows.values(), default=0)


def _with_lane(rows: DataFrame, lanes: int, largest_day: int) -> DataFrame:
    """Deal each day's rows, in their order, to lanes; a lane's number leads its rows to a task of their own."""
    part = F.pmod(F.xxhash64("event_id", F.lit("part")), F.lit(1 + largest_day // ROWS_PER_SORT))
    order = Window.partitionBy("event_date", part).orderBy(ORDER, "event_id")
    keys = F.array(*(F.lit(key) for key in lane_keys(lanes)))
    return rows.withColumn(LANE, F.element_at(keys, ((F.row_number().over(order) - 1) % lanes + 1).cast("int")))
