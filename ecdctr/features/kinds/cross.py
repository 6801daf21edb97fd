"""Several columns together as one token."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ecdctr.features.columns import SampleColumn, TokenSource
from ecdctr.features.feature import Feature
from ecdctr.features.scene import Encoded, Scene

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class CrossFeature(Feature):
    """The combination of two or more columns as one token."""

    kind: Literal["cross"]
    sources: list[str] = Field(min_length=2)
    """Columns of the log whose texts together make the token."""

    def log_columns(self) -> dict[str, str]:
        """The parts as text."""
        return dict.fromkeys(self.sources, "string")

    def columns(self) -> list[SampleColumn]:
        """One id."""
        return [SampleColumn(self.name, "id", vocabulary=self.name)]

    def tokens(self) -> dict[str, TokenSource]:
        """The parts together."""
        return {self.name: TokenSource(self.name, tuple(self.sources))}

    def encode(self, frame: "DataFrame", scene: Scene) -> Encoded:
        """The id of the token."""
        frame, column = scene.token_id(frame, self.name, self.tokens()[self.name])
        return frame, {self.name: column}
