"""A kind of feature as a company would write it: a column whose few values the configuration lists.

In a configuration, once the package is installed:

    dataset:
      features:
        - {kind: choice, name: network, values: [wifi, "5g", "4g"]}
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ecdctr.features import FIRST_BUCKET, MISSING, Encoded, Feature, SampleColumn, Scene

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class ChoiceFeature(Feature):
    """A column with few known values; each gets an embedding from its first row on, and all others share one."""

    kind: Literal["choice"]
    source: str | None = None
    """Column of the log; by default the one named like the feature."""
    values: list[str] = Field(min_length=1)
    """Which, in an order that stays: a new one goes to the end."""

    def log_columns(self) -> dict[str, str]:
        """The source as text."""
        return {self.source or self.name: "string"}

    def columns(self) -> list[SampleColumn]:
        """One id of a vocabulary of fixed size: any other value, then the listed ones."""
        return [SampleColumn(self.name, "id", vocabulary=self.name, values=1 + len(self.values))]

    def encode(self, frame: "DataFrame", scene: Scene) -> Encoded:
        """2 for a value that is not listed, 3 + its place for one that is; 1 where it is missing."""
        from pyspark.sql import functions as F

        text = scene.column(self.source or self.name)
        place = F.array_position(F.array(*(F.lit(value) for value in self.values)), text)
        return frame, {self.name: F.when(text.isNull(), F.lit(MISSING)).otherwise(place + FIRST_BUCKET).cast("bigint")}
