"""Numbers cut at the quantiles of the days before."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ecdctr.durations import Days
from ecdctr.features.columns import Fitted, SampleColumn
from ecdctr.features.encoding import FIRST_BUCKET, MISSING
from ecdctr.features.feature import Feature
from ecdctr.features.scene import Encoded, Scene

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class QuantileFeature(Feature):
    """A numeric column cut at its quantiles of the days before; each bucket gets an embedding."""

    kind: Literal["quantile"]
    source: str | None = None
    """Column of the log; by default the one named like the feature."""
    buckets: int = Field(default=10, ge=2, le=1000)
    """Equally many rows of the window fall into each."""
    window: Days = 28
    """How many days before the row's day the boundaries are fitted on, over both domains."""

    def log_columns(self) -> dict[str, str]:
        """The source as a number."""
        return {self.source or self.name: "double"}

    def columns(self) -> list[SampleColumn]:
        """One id."""
        return [SampleColumn(self.name, "id", vocabulary=self.name, values=self.buckets)]

    def fitted(self) -> Fitted:
        """The source."""
        return Fitted(self.source or self.name, self.window)

    def encode(self, frame: "DataFrame", scene: Scene) -> Encoded:
        """2 + the number of quantiles that the value has passed; 1 where it is missing or no earlier day has a value.

        Bucket k is the k-th part of the days before, whatever the boundaries are by then; so ids keep their meaning
        while boundaries move.
        """
        from pyspark.sql import functions as F

        fitted, name = self.fitted(), f"_{self.name}_quantiles"
        rows = [(day, scene.before(fitted, day).quantiles(self.buckets)) for day in scene.days()]
        table = scene.local_frame(rows, f"event_date date, {name} array<double>")
        frame = frame.join(F.broadcast(table), "event_date", "left")
        value = scene.column(fitted.source)
        missing = value.isNull() | F.isnan(value) | (F.size(name) < 1)
        passed = F.size(F.filter(F.col(name), lambda boundary: boundary < value))
        return frame, {self.name: F.when(missing, F.lit(MISSING)).otherwise(passed + FIRST_BUCKET).cast("bigint")}
