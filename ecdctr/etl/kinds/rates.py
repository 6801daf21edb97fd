"""Click rate and impressions of the days before, by user, item, or any columns."""

import datetime as dt
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ecdctr.config.features import RateFeature
from ecdctr.etl.scene import Scene
from ecdctr.etl.tokens import token
from ecdctr.lake.frames import local_frame

_DAY = dt.timedelta(days=1)


def encode(spec: RateFeature, frame: DataFrame, scene: Scene) -> tuple[DataFrame, dict[str, Any]]:
    """For each window ln(1 + impressions) and (clicks + strength·mean) / (impressions + strength).

    The mean is the click rate of the whole window; where the window has no row at all, it is 0.
    """
    key, prefix = token(spec.of, None), f"_{spec.name}_"
    daily = _daily(spec, scene, key)
    state = _windows(spec, daily, scene.impressions.select(key.alias("key"), F.unix_date("event_date").alias("day")))
    state = state.select(*(F.col(name).alias(f"{prefix}{name}") for name in state.columns))
    at = (key == F.col(f"{prefix}key")) & (F.unix_date("event_date") == F.col(f"{prefix}day"))
    frame = frame.join(state, at, "left").drop(f"{prefix}key", f"{prefix}day")
    frame = frame.join(F.broadcast(_means(spec, daily, scene, prefix)), "event_date", "left")
    columns: dict[str, Any] = {}
    for days in spec.windows:
        shown, clicked = (F.coalesce(F.col(f"{prefix}{part}_{days}"), F.lit(0)) for part in ("shown", "clicked"))
        rate = (clicked + spec.strength * F.col(f"{prefix}mean_{days}")) / (shown + spec.strength)
        columns[f"{spec.name}_rate_{days}d"] = rate.cast("float")
        columns[f"{spec.name}_impressions_{days}d"] = F.log1p(shown.cast("double")).cast("float")
    return frame, columns


def _daily(spec: RateFeature, scene: Scene, key: Any) -> DataFrame:
    """Impressions and clicks by key and day: key, day, shown, clicked."""
    delay = spec.delay * _DAY
    past = scene.past(list(spec.domains), scene.since - delay - max(spec.windows) * _DAY, scene.until - delay)
    rows = past.select(key.alias("key"), F.unix_date("event_date").alias("day"), "label")
    return rows.groupBy("key", "day").agg(
        F.count("*").alias("shown"), F.sum(F.col("label").cast("bigint")).alias("clicked")
    )


def _windows(spec: RateFeature, daily: DataFrame, wanted: DataFrame) -> DataFrame:
    """Sums of the windows before each wanted key and day; work grows with keys times days, not with rows."""
    zero = F.lit(0).cast("bigint")
    rows = wanted.distinct().select(
        "key", "day", zero.alias("shown"), zero.alias("clicked"), F.lit(True).alias("asked")
    )
    rows = rows.unionByName(daily.withColumn("asked", F.lit(False))).where(F.col("key").isNotNull())
    sums: dict[str, Any] = {}
    for days in spec.windows:
        window = Window.partitionBy("key").orderBy("day").rangeBetween(-(spec.delay + days), -(spec.delay + 1))
        sums |= {f"{part}_{days}": F.sum(part).over(window) for part in ("shown", "clicked")}
    return rows.withColumns(sums).where("asked").select("key", "day", *sums)


def _means(spec: RateFeature, daily: DataFrame, scene: Scene, prefix: str) -> DataFrame:
    """Click rate of everything in each window: one row per day to encode."""
    total = daily.groupBy("day").agg(F.sum("shown").alias("shown"), F.sum("clicked").alias("clicked")).collect()
    by_day = {row["day"]: (row["shown"], row["clicked"]) for row in total}
    rows = []
    for date in scene.days():
        end = (date - dt.date(1970, 1, 1)).days - spec.delay
        means = []
        for days in spec.windows:
            found = [by_day[day] for day in range(end - days, end) if day in by_day]
            shown = sum(count for count, _ in found)
            means.append(sum(clicks for _, clicks in found) / shown if shown else 0.0)
        rows.append((date, *means))
    names = ", ".join(f"{prefix}mean_{days} double" for days in spec.windows)
    return local_frame(scene.lake.spark, rows, f"event_date date, {names}")
