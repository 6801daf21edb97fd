"""Numbers cut at boundaries that the configuration gives."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ecdctr.features.columns import SampleColumn
from ecdctr.features.encoding import FIRST_BUCKET, MISSING
from ecdctr.features.feature import Feature
from ecdctr.features.scene import Encoded, Scene

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def _ascend(boundaries: list[float]) -> list[float]:
    if sorted(set(boundaries)) != boundaries:
        raise ValueError("boundaries must ascend, each once")
    return boundaries


Boundaries = Annotated[list[float], Field(min_length=1), AfterValidator(_ascend)]


class BucketFeature(Feature):
    """A numeric column cut at given boundaries; each bucket gets an embedding."""

    kind: Literal["bucket"]
    source: str | None = None
    """Column of the log; by default the one named like the feature."""
    boundaries: Boundaries
    """Ascending; a value equal to one belongs to the bucket above it."""

    def log_columns(self) -> dict[str, str]:
        """The source as a number."""
        return {self.source or self.name: "double"}

    def columns(self) -> list[SampleColumn]:
        """One id."""
        return [SampleColumn(self.name, "id", vocabulary=self.name, values=len(self.boundaries) + 1)]

    def encode(self, frame: "DataFrame", scene: Scene) -> Encoded:
        """2 + the number of boundaries that the value has reached; 1 where it is missing."""
        from pyspark.sql import functions as F

        value = scene.column(self.source or self.name)
        return frame, {self.name: bucket_of(value, value.isNull() | F.isnan(value), self.boundaries)}


def bucket_of(value: Any, missing: Any, boundaries: list[float]) -> Any:
    """Id of a value among boundaries."""
    from pyspark.sql import functions as F

    reached = F.lit(FIRST_BUCKET)
    for boundary in boundaries:
        reached = reached + F.when(value >= boundary, 1).otherwise(0)
    return F.when(missing, F.lit(MISSING)).otherwise(reached).cast("bigint")
