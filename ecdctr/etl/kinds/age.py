"""Days since something was first seen."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.config.features import AgeFeature
from ecdctr.etl.kinds.buckets import bucket_of
from ecdctr.etl.scene import Scene
from ecdctr.etl.tokens import token


def encode(spec: AgeFeature, frame: DataFrame, scene: Scene) -> tuple[DataFrame, dict[str, Any]]:
    """The bucket of the age in days; 1 where no earlier day has it."""
    key, prefix = token(spec.of, None), f"_{spec.name}_"
    past = scene.past(list(spec.domains), None, scene.until)
    first = past.select(key.alias(f"{prefix}key"), "event_date").where(F.col(f"{prefix}key").isNotNull())
    first = first.groupBy(f"{prefix}key").agg(F.min("event_date").alias(f"{prefix}first"))
    frame = frame.join(first, key == F.col(f"{prefix}key"), "left").drop(f"{prefix}key")
    days = F.date_diff("event_date", F.col(f"{prefix}first"))
    return frame, {spec.name: bucket_of(days, days.isNull() | (days < 1), spec.boundaries)}
