"""Hour and weekday of the impression."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.config.features import TimeFeature
from ecdctr.etl import clock
from ecdctr.etl.scene import Scene
from ecdctr.features.encoding import FIRST_BUCKET

PARTS = {"hour": clock.hour, "weekday": clock.weekday}


def encode(spec: TimeFeature, frame: DataFrame, scene: Scene) -> tuple[DataFrame, dict[str, Any]]:
    """2 + the hour or weekday on the data set's clock."""
    part = PARTS[spec.part](F.unix_micros("event_time"), clock.offset_micros(scene.config.dataset.day_boundary))
    return frame, {spec.name: (part + F.lit(FIRST_BUCKET)).cast("bigint")}
