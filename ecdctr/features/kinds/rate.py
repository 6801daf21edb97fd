"""Click rate and impressions of the days before, by user, item, or any columns."""

import datetime as dt
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from ecdctr.durations import Days, DaysOrZero
from ecdctr.features.columns import SampleColumn
from ecdctr.features.feature import Domains, Feature, key_columns
from ecdctr.features.scene import Encoded, Scene

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_DAY = dt.timedelta(days=1)


class RateFeature(Feature):
    """Smoothed click rate and impressions over the days before: of the user, the item, or any columns together."""

    kind: Literal["rate"]
    of: list[str] = Field(min_length=1)
    """`user_id`, `item_id`, or columns of the log whose texts together name what is counted."""
    windows: list[Days] = Field(default=[7], min_length=1)
    """Lengths in days; each gives the numbers `NAME_rate_Wd` and `NAME_impressions_Wd`."""
    domains: Domains = Field(default=["natural", "ad"])
    """Whose impressions are counted; `[natural]` in an ad's sample is what the user did in the feed."""
    delay: DaysOrZero = 0
    """Days until a day is known: windows end this long before the row's day, 0 being the midnight that begins it."""
    strength: float = Field(default=20.0, gt=0)
    """Impressions that the mean click rate of the same window counts as: (clicks + strength·mean) / (impressions + strength)."""

    @model_validator(mode="after")
    def _windows_once(self) -> "RateFeature":
        if len(set(self.windows)) != len(self.windows):
            raise ValueError("a window is given twice")
        return self

    def log_columns(self) -> dict[str, str]:
        """The parts of the key as text."""
        return key_columns(self.of)

    def columns(self) -> list[SampleColumn]:
        """Two numbers per window."""
        parts = ("rate", "impressions")
        return [SampleColumn(f"{self.name}_{part}_{days}d", "number") for days in self.windows for part in parts]

    def encode(self, frame: "DataFrame", scene: Scene) -> Encoded:
        """For each window ln(1 + impressions) and (clicks + strength·mean) / (impressions + strength).

        The mean is the click rate of the whole window; where the window has no row at all, it is 0.
        """
        from pyspark.sql import functions as F

        key, prefix = scene.text(self.of), f"_{self.name}_"
        daily = self._daily(scene, key)
        state = self._windows(daily, scene.impressions.select(key.alias("key"), F.unix_date("event_date").alias("day")))
        state = state.select(*(F.col(name).alias(f"{prefix}{name}") for name in state.columns))
        at = (key == F.col(f"{prefix}key")) & (F.unix_date("event_date") == F.col(f"{prefix}day"))
        frame = frame.join(state, at, "left").drop(f"{prefix}key", f"{prefix}day")
        frame = frame.join(F.broadcast(self._means(daily, scene, prefix)), "event_date", "left")
        columns: dict[str, Any] = {}
        for days in self.windows:
            shown, clicked = (F.coalesce(F.col(f"{prefix}{part}_{days}"), F.lit(0)) for part in ("shown", "clicked"))
            rate = (clicked + self.strength * F.col(f"{prefix}mean_{days}")) / (shown + self.strength)
            columns[f"{self.name}_rate_{days}d"] = rate.cast("float")
            columns[f"{self.name}_impressions_{days}d"] = F.log1p(shown.cast("double")).cast("float")
        return frame, columns

    def _daily(self, scene: Scene, key: Any) -> "DataFrame":
        """Impressions by key and day, and clicks by key and the day on which they came: key, day, shown, clicked."""
        from pyspark.sql import functions as F

        delay, wait = self.delay * _DAY, scene.days_to_a_click(self.domains)
        past = scene.past(self.domains, scene.since - delay - (max(self.windows) + wait) * _DAY, scene.until - delay)
        clicked = F.col("label").cast("bigint")
        shown = past.select(
            key.alias("key"),
            F.unix_date("event_date").alias("day"),
            F.lit(1).alias("shown"),
            (clicked if wait == 0 else F.lit(0)).alias("clicked"),
        )
        if wait > 0:
            clicks = past.where(clicked == 1).select(
                key.alias("key"), scene.click_day().alias("day"), F.lit(0).alias("shown"), F.lit(1).alias("clicked")
            )
            shown = shown.unionByName(clicks)
        return shown.groupBy("key", "day").agg(
            F.sum(F.col("shown").cast("bigint")).alias("shown"), F.sum(F.col("clicked").cast("bigint")).alias("clicked")
        )

    def _windows(self, daily: "DataFrame", wanted: "DataFrame") -> "DataFrame":
        """Sums of the windows before each wanted key and day; work grows with keys times days, not with rows."""
        from pyspark.sql import Window
        from pyspark.sql import functions as F

        zero = F.lit(0).cast("bigint")
        rows = wanted.distinct().select(
            "key", "day", zero.alias("shown"), zero.alias("clicked"), F.lit(True).alias("asked")
        )
        rows = rows.unionByName(daily.withColumn("asked", F.lit(False))).where(F.col("key").isNotNull())
        sums: dict[str, Any] = {}
        for days in self.windows:
            window = Window.partitionBy("key").orderBy("day").rangeBetween(-(self.delay + days), -(self.delay + 1))
            sums |= {f"{part}_{days}": F.sum(part).over(window) for part in ("shown", "clicked")}
        return rows.withColumns(sums).where("asked").select("key", "day", *sums)

    def _means(self, daily: "DataFrame", scene: Scene, prefix: str) -> "DataFrame":
        """Click rate of everything in each window: one row per day to encode."""
        from pyspark.sql import functions as F

        total = daily.groupBy("day").agg(F.sum("shown").alias("shown"), F.sum("clicked").alias("clicked")).collect()
        by_day = {row["day"]: (row["shown"], row["clicked"]) for row in total}
        rows = []
        for date in scene.days():
            end = (date - dt.date(1970, 1, 1)).days - self.delay
            means = []
            for days in self.windows:
                found = [by_day[day] for day in range(end - days, end) if day in by_day]
                shown = sum(count for count, _ in found)
                means.append(sum(clicks for _, clicks in found) / shown if shown else 0.0)
            rows.append((date, *means))
        names = ", ".join(f"{prefix}mean_{days} double" for days in self.windows)
        return scene.local_frame(rows, f"event_date date, {names}")
