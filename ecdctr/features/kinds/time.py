"""Hour and weekday of the impression."""

from typing import TYPE_CHECKING, Literal

from ecdctr.features.columns import SampleColumn
from ecdctr.features.encoding import FIRST_BUCKET
from ecdctr.features.feature import Feature
from ecdctr.features.scene import Encoded, Scene

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SIZES = {"hour": 24, "weekday": 7}


class TimeFeature(Feature):
    """Hour of the day or day of the week of the impression, on the data set's clock."""

    kind: Literal["time"]
    part: Literal["hour", "weekday"]
    """Hour 0 … 23, or weekday 0 (Monday) … 6."""

    def columns(self) -> list[SampleColumn]:
        """One id."""
        return [SampleColumn(self.name, "id", vocabulary=self.name, values=SIZES[self.part])]

    def encode(self, frame: "DataFrame", scene: Scene) -> Encoded:
        """2 + the hour or weekday."""
        from pyspark.sql import functions as F

        part = scene.hour() if self.part == "hour" else scene.weekday()
        return frame, {self.name: (part + F.lit(FIRST_BUCKET)).cast("bigint")}
