"""Numbers cut into buckets: at given boundaries, or at the quantiles of the days before."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.config.features import BucketFeature, QuantileFeature
from ecdctr.etl.scene import Scene
from ecdctr.etl.source import column
from ecdctr.features.encoding import FIRST_BUCKET, MISSING
from ecdctr.lake.frames import local_frame


def encode(spec: BucketFeature, frame: DataFrame, scene: Scene) -> tuple[DataFrame, dict[str, Any]]:
    """2 + the number of boundaries that the value has reached; 1 where it is missing."""
    value = column(spec.source or spec.name)
    return frame, {spec.name: bucket_of(value, value.isNull() | F.isnan(value), spec.boundaries)}


def bucket_of(value: Any, missing: Any, boundaries: list[float]) -> Any:
    """Id of a value among boundaries that the configuration gives."""
    reached = F.lit(FIRST_BUCKET)
    for boundary in boundaries:
        reached = reached + F.when(value >= boundary, 1).otherwise(0)
    return F.when(missing, F.lit(MISSING)).otherwise(reached).cast("bigint")


def encode_quantiles(spec: QuantileFeature, frame: DataFrame, scene: Scene) -> tuple[DataFrame, dict[str, Any]]:
    """2 + the number of quantiles that the value has passed; 1 where it is missing or no earlier day has a value.

    Bucket k is the k-th part of the days before, whatever the boundaries are by then; so ids keep their meaning while
    boundaries move.
    """
    fitted, name = spec.fitted(), f"_{spec.name}_quantiles"
    rows = [
        (day, scene.histograms.before(fitted.source, day, fitted.window).quantiles(spec.buckets))
        for day in scene.days()
    ]
    table = local_frame(scene.lake.spark, rows, f"event_date date, {name} array<double>")
    frame = frame.join(F.broadcast(table), "event_date", "left")
    value = column(fitted.source)
    missing = value.isNull() | F.isnan(value) | (F.size(name) < 1)
    passed = F.size(F.filter(F.col(name), lambda boundary: boundary < value))
    return frame, {spec.name: F.when(missing, F.lit(MISSING)).otherwise(passed + FIRST_BUCKET).cast("bigint")}
