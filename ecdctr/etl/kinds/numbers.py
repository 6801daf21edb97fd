"""Numbers: as they are, as logarithms, or standardised by the days before."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.config.features import NumberFeature
from ecdctr.etl.scene import Scene
from ecdctr.etl.source import column
from ecdctr.lake.frames import local_frame

LIMIT = 10.0
"""Standard deviations beyond which a standardised value is cut: a wild one must not drown all others."""


def encode(spec: NumberFeature, frame: DataFrame, scene: Scene) -> tuple[DataFrame, dict[str, Any]]:
    """The value after its transform as float; `fill` where it is missing or not finite."""
    value = column(spec.source or spec.name)
    if spec.transform == "log1p":
        value = F.signum(value) * F.log1p(F.abs(value))
    fitted = spec.fitted()
    if fitted is not None:
        frame = frame.join(F.broadcast(_moments(spec.name, fitted.source, fitted.window, scene)), "event_date", "left")
        mean, deviation = F.col(f"_{spec.name}_mean"), F.col(f"_{spec.name}_deviation")
        # `least` and `greatest` pass a null over, and take NaN for the greatest of all.
        known = value.isNotNull() & ~F.isnan(value) & mean.isNotNull()
        value = F.when(known, F.greatest(F.lit(-LIMIT), F.least(F.lit(LIMIT), (value - mean) / deviation)))
    single = value.cast("float")
    finite = single.isNotNull() & ~F.isnan(single) & (F.abs(single) < F.lit(float("inf")))
    return frame, {spec.name: F.when(finite, single).otherwise(F.lit(spec.fill).cast("float")).cast("float")}


def _moments(name: str, source: str, window: int, scene: Scene) -> DataFrame:
    """Mean and standard deviation for each day; a number that never varied is only centred."""
    rows = []
    for day in scene.days():
        fit = scene.histograms.before(source, day, window).moments()
        if fit is not None:
            rows.append((day, fit[0], fit[1] or 1.0))
    return local_frame(scene.lake.spark, rows, f"event_date date, _{name}_mean double, _{name}_deviation double")
