"""Numbers of earlier days as histograms: what standardisation and quantiles are fitted on.

Values are rounded to three significant digits and counted by day. Counts are whole numbers, so a fit does not depend on
the order in which Spark's tasks end: days prepared one by one, all together or once more give the same bits. The driver
holds days times distinct rounded values, however many rows there are.
"""

import datetime as dt
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.etl.source import column

DIGITS = 3


@dataclass(frozen=True)
class Histogram:
    """How often each value occurred.

    Attributes:
        values: Ascending.
        counts: Of each, at least 1.
    """

    values: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    def moments(self) -> tuple[float, float] | None:
        """Mean and standard deviation; None without values."""
        rows = int(self.counts.sum())
        if not rows:
            return None
        pairs = list(zip(self.values.tolist(), self.counts.tolist(), strict=True))
        # Sums without rounding error do not depend on their order.
        mean = math.fsum(value * count for value, count in pairs) / rows
        return mean, math.sqrt(math.fsum((value - mean) ** 2 * count for value, count in pairs) / rows)

    def quantiles(self, parts: int) -> list[float]:
        """The `parts - 1` smallest values that 1/parts, 2/parts, … of the rows do not exceed; none without values."""
        total = np.cumsum(self.counts)
        if not total.size:
            return []
        # Whole numbers on both sides: rows · k / parts is reached where total · parts is at least rows · k.
        wanted = total[-1] * np.arange(1, parts)
        found: list[float] = self.values[np.searchsorted(total * parts, wanted)].tolist()
        return found


class Histograms:
    """Counts of rounded values by column and day.

    Args:
        rows: Column, days since 1970, three digits, power of ten, count.
    """

    def __init__(self, rows: list[tuple[str, int, int, int, int]]) -> None:
        self._days: dict[str, dict[int, dict[float, int]]] = {}
        for name, day, digits, power, count in rows:
            counts = self._days.setdefault(name, {}).setdefault(day, {})
            value = float(f"{digits}e{power}")
            # 9.999 and 10.01 are one value with two powers of ten.
            counts[value] = counts.get(value, 0) + count

    def before(self, name: str, day: dt.date, window: int) -> Histogram:
        """The values of the `window` days before a day."""
        last = (day - dt.date(1970, 1, 1)).days
        counts: dict[float, int] = {}
        for earlier in range(last - window, last):
            for value, count in self._days.get(name, {}).get(earlier, {}).items():
                counts[value] = counts.get(value, 0) + count
        values = sorted(counts)
        return Histogram(np.array(values, np.float64), np.array([counts[value] for value in values], np.int64))


def daily_histograms(rows: DataFrame, columns: list[str]) -> Histograms:
    """Count the rounded values of some columns by day, in one pass.

    Args:
        rows: With `event_date` and the columns, as double; null, NaN and infinite values are left out.
        columns: Which to count.
    """
    if not columns:
        return Histograms([])
    pairs = F.array(*(F.struct(F.lit(place).alias("c"), column(name).alias("x")) for place, name in enumerate(columns)))
    values = rows.select(F.unix_date("event_date").alias("day"), F.explode(pairs).alias("p")).select("day", "p.*")
    values = values.where(F.col("x").isNotNull() & ~F.isnan("x") & (F.abs("x") < float("inf")))
    power = F.when(F.col("x") == 0, 0).otherwise(F.floor(F.log10(F.abs("x"))) - (DIGITS - 1)).cast("int")
    scaled = values.withColumn("power", power)
    # Very small numbers would need a power beyond the range of double; nothing fitted tells them from zero.
    tiny = F.col("power") < -300
    digits = F.when(tiny, 0).otherwise(F.round(F.col("x") / F.pow(F.lit(10.0), F.col("power")))).cast("int")
    counted = scaled.select(
        "c", "day", digits.alias("digits"), F.when(tiny, 0).otherwise(F.col("power")).alias("power")
    )
    found = counted.groupBy("c", "day", "digits", "power").count().collect()
    return Histograms([(columns[r["c"]], r["day"], r["digits"], r["power"], r["count"]) for r in found])
