"""Days since something was first seen."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ecdctr.features.columns import ITEM, SampleColumn
from ecdctr.features.feature import Domains, Feature, key_columns
from ecdctr.features.kinds.bucket import Boundaries, bucket_of
from ecdctr.features.scene import Encoded, Scene

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class AgeFeature(Feature):
    """Days since an item or user was first seen, cut at boundaries; one not seen before the row's day is missing."""

    kind: Literal["age"]
    of: list[str] = Field(default=[ITEM], min_length=1)
    """`item_id`, `user_id`, or columns of the log that together name what has an age."""
    domains: Domains = Field(default=["natural", "ad"])
    """Where it may have been seen first."""
    boundaries: Boundaries = Field(default=[2, 3, 5, 7, 14, 30, 60, 90, 180, 365])
    """Ascending, in days; an age equal to one belongs to the bucket above it."""

    def log_columns(self) -> dict[str, str]:
        """The parts of the key as text."""
        return key_columns(self.of)

    def columns(self) -> list[SampleColumn]:
        """One id."""
        return [SampleColumn(self.name, "id", vocabulary=self.name, values=len(self.boundaries) + 1)]

    def encode(self, frame: "DataFrame", scene: Scene) -> Encoded:
        """The bucket of the age in days; 1 where no earlier day has it."""
        from pyspark.sql import functions as F

        key, prefix = scene.text(self.of), f"_{self.name}_"
        past = scene.past(self.domains, None, scene.until)
        first = past.select(key.alias(f"{prefix}key"), "event_date").where(F.col(f"{prefix}key").isNotNull())
        first = first.groupBy(f"{prefix}key").agg(F.min("event_date").alias(f"{prefix}first"))
        frame = frame.join(first, key == F.col(f"{prefix}key"), "left").drop(f"{prefix}key")
        days = F.date_diff("event_date", F.col(f"{prefix}first"))
        return frame, {self.name: bucket_of(days, days.isNull() | (days < 1), self.boundaries)}
