"""Feature specifications: what each field of a sample is made from.

User and item are fields of every data set and need no specification. Adding a kind is one class here and one
encoder in `ecdctr.features.kinds`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ecdctr.config.settings import Settings

Domain = Literal["natural", "ad"]
RESERVED = {"event_id", "event_date", "event_time", "day", "label", "weight", "user", "user_id", "item_id"}


def _name(text: str) -> str:
    if not text.isidentifier() or not text.isascii() or text.lower() != text:
        raise ValueError(f"{text!r} is no feature name; use small letters, digits and underscores")
    if text in RESERVED:
        raise ValueError(f"{text!r} is a name that every sample has already; choose another one")
    return text


FeatureName = Annotated[str, AfterValidator(_name)]


class IdFeature(Settings):
    """A categorical column; each token gets an embedding."""

    kind: Literal["id"]
    name: FeatureName
    source: str | None = None
    """Column of the log; by default the one named like the feature."""
    vocabulary: str | None = None
    """Features that name the same vocabulary share their ids and embeddings."""


class NumberFeature(Settings):
    """A numeric column, given to the network as a number."""

    kind: Literal["number"]
    name: FeatureName
    source: str | None = None
    """Column of the log; by default the one named like the feature."""
    transform: Literal["none", "log1p"] = "log1p"
    """`log1p`: sign(x)·ln(1 + |x|)."""
    fill: float = 0.0
    """What a missing value becomes, after the transform."""


class BucketFeature(Settings):
    """A numeric column cut at given boundaries; each bucket gets an embedding."""

    kind: Literal["bucket"]
    name: FeatureName
    source: str | None = None
    """Column of the log; by default the one named like the feature."""
    boundaries: list[float] = Field(min_length=1)
    """Ascending; a value equal to one belongs to the bucket above it."""

    @model_validator(mode="after")
    def _ascending(self) -> "BucketFeature":
        if sorted(set(self.boundaries)) != self.boundaries:
            raise ValueError("boundaries must ascend, each once")
        return self


class TimeFeature(Settings):
    """Hour of the day or day of the week of the impression, on the data set's clock."""

    kind: Literal["time"]
    name: FeatureName
    part: Literal["hour", "weekday"]
    """Hour 0 … 23, or weekday 0 (Monday) … 6."""


class CrossFeature(Settings):
    """The combination of two or more columns as one token."""

    kind: Literal["cross"]
    name: FeatureName
    sources: list[str] = Field(min_length=2)
    """Columns of the log whose texts together make the token."""


class SequenceFeature(Settings):
    """The user's latest clicked items, strictly before the impression, most recent first."""

    kind: Literal["sequence"]
    name: FeatureName
    length: int = Field(default=20, ge=1, le=5000)
    """Clicks remembered; shorter histories are padded."""
    domains: list[Domain] = Field(default=["natural", "ad"], min_length=1)
    """Whose clicks are remembered."""
    delay_seconds: int = Field(default=0, ge=0)
    """A click is known only this long after it happened."""


FeatureSpec = Annotated[
    IdFeature | NumberFeature | BucketFeature | TimeFeature | CrossFeature | SequenceFeature,
    Field(discriminator="kind"),
]


class VocabularyConfig(Settings):
    """When a token earns an embedding of its own."""

    min_count: int = Field(default=2, ge=1)
    """Impressions, up to and including the day of admission, that a token needs."""
    oov_buckets: int = Field(default=1, ge=1)
    """Rows that all other tokens share, dealt by CRC-32 of the token."""
    share_domains: bool = True
    """Whether the same text in the natural and the ad log is the same token."""
