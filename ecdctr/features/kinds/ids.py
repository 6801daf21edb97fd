"""Several tokens in one column, such as tags: a list of ids of fixed length."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ecdctr.features.columns import SampleColumn, TokenSource
from ecdctr.features.encoding import PADDING
from ecdctr.features.feature import Feature
from ecdctr.features.scene import Encoded, Scene

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class IdsFeature(Feature):
    """A column with several tokens, such as tags; their embeddings are averaged into one vector."""

    kind: Literal["ids"]
    source: str | None = None
    """Column of the log, text or array; by default the one named like the feature."""
    separator: str = Field(default="|", min_length=1)
    """Stands between the tokens of a text."""
    length: int = Field(default=5, ge=1, le=1000)
    """Tokens kept, the first ones; fewer are padded, and padding does not count in the average."""
    vocabulary: str | None = None
    """Features that name the same vocabulary share their ids and embeddings."""

    def log_columns(self) -> dict[str, str]:
        """The source as text; arrays are joined when they are read."""
        return {self.source or self.name: "string"}

    def columns(self) -> list[SampleColumn]:
        """One list."""
        return [SampleColumn(self.name, "list", vocabulary=self.vocabulary or self.name, length=self.length)]

    def tokens(self) -> dict[str, TokenSource]:
        """Each part of the source."""
        return {self.name: TokenSource(self.vocabulary or self.name, (self.source or self.name,), self.separator)}

    def encode(self, frame: "DataFrame", scene: Scene) -> Encoded:
        """The first tokens' ids in their order, padded at the end.

        Each distinct text is looked up once, however many rows have it.
        """
        from pyspark.sql import functions as F

        source, prefix = self.tokens()[self.name], f"_{self.name}_"
        text = scene.column(source.columns[0])
        texts = scene.impressions.select(text.alias(f"{prefix}text"), scene.token(source).alias("listed")).where(
            "size(listed) > 0"
        )
        parts = texts.dropDuplicates([f"{prefix}text"]).select(
            f"{prefix}text", F.posexplode(F.slice("listed", 1, self.length)).alias("place", "part")
        )
        found = scene.look_up(parts, source.vocabulary, F.col("part"), "_")
        token, unknown = F.col("_token"), F.lit(None).cast("bigint")
        each = F.struct(
            "place",
            scene.id_of(source.vocabulary, token, F.col("_id")).alias("own"),
            scene.id_of(source.vocabulary, token, unknown).alias("bucket"),
            F.col("_admitted").alias("admitted"),
        )
        coded = found.groupBy(f"{prefix}text").agg(F.array_sort(F.collect_list(each)).alias(f"{prefix}ids"))
        frame = frame.join(coded, text == F.col(f"{prefix}text"), "left").drop(f"{prefix}text")
        ids = F.transform(
            F.col(f"{prefix}ids"),
            lambda part: F.when(part["admitted"] <= F.col("event_date"), part["own"]).otherwise(part["bucket"]),
        )
        none = F.array_repeat(F.lit(PADDING).cast("bigint"), self.length)
        return frame, {self.name: F.slice(F.concat(F.coalesce(ids, F.slice(none, 1, 0)), none), 1, self.length)}
