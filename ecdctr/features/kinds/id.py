"""One token per row, such as a category."""

from typing import TYPE_CHECKING, Literal

from ecdctr.features.columns import SampleColumn, TokenSource
from ecdctr.features.feature import Feature
from ecdctr.features.scene import Encoded, Scene

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class IdFeature(Feature):
    """A categorical column; each token gets an embedding."""

    kind: Literal["id"]
    source: str | None = None
    """Column of the log; by default the one named like the feature."""
    vocabulary: str | None = None
    """Features that name the same vocabulary share their ids and embeddings."""

    def log_columns(self) -> dict[str, str]:
        """The source as text."""
        return {self.source or self.name: "string"}

    def columns(self) -> list[SampleColumn]:
        """One id."""
        return [SampleColumn(self.name, "id", vocabulary=self.vocabulary or self.name)]

    def tokens(self) -> dict[str, TokenSource]:
        """The source."""
        return {self.name: TokenSource(self.vocabulary or self.name, (self.source or self.name,))}

    def encode(self, frame: "DataFrame", scene: Scene) -> Encoded:
        """The id of the token."""
        frame, column = scene.token_id(frame, self.name, self.tokens()[self.name])
        return frame, {self.name: column}
