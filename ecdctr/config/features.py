"""Feature specifications: what each field of a sample is made from.

User and item are fields of every data set and need no specification. A kind says here which columns of the log it reads
and which columns it gives to samples; its encoder in `ecdctr.etl.kinds` computes them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ecdctr.config.durations import Days, DaysOrZero
from ecdctr.config.settings import Settings

Domain = Literal["natural", "ad"]
RESERVED = {"event_id", "event_date", "event_time", "day", "label", "weight", "user", "user_id", "item_id"}
USER = "user_id"
ITEM = "item_id"
FIXED_SIZES = {"hour": 24, "weekday": 7}
AGE_BUCKETS = 40
"""Of the times in a sequence: 2^40 seconds are longer than any log."""


def _name(text: str) -> str:
    if not text.isidentifier() or not text.isascii() or text.lower() != text:
        raise ValueError(f"{text!r} is no feature name; use small letters, digits and underscores")
    if text in RESERVED:
        raise ValueError(f"{text!r} is a name that every sample has already; choose another one")
    return text


def _ascend(boundaries: list[float]) -> list[float]:
    if sorted(set(boundaries)) != boundaries:
        raise ValueError("boundaries must ascend, each once")
    return boundaries


FeatureName = Annotated[str, AfterValidator(_name)]
Boundaries = Annotated[list[float], Field(min_length=1), AfterValidator(_ascend)]
Domains = Annotated[list[Domain], Field(min_length=1)]


@dataclass(frozen=True)
class SampleColumn:
    """One column that a feature gives to samples.

    Attributes:
        name: Of the column.
        shape: `id`: bigint; `number`: float; `list`: array<bigint> of a fixed length.
        vocabulary: Of an id or list; None: that of the id field `like`.
        values: How many values an id has where the configuration fixes them: value v is id 2 + v.
        length: Of a list.
        like: The id field that has the same vocabulary and, in a sequence, attends to this list.
        aligned: The list whose places this one describes further.
    """

    name: str
    shape: Literal["id", "number", "list"]
    vocabulary: str | None = None
    values: int | None = None
    length: int = 0
    like: str | None = None
    aligned: str | None = None


@dataclass(frozen=True)
class TokenSource:
    """Where the tokens of an open vocabulary come from.

    Attributes:
        vocabulary: Its name.
        columns: Columns of impressions whose texts together make the token.
        separator: Where given, the one column holds several tokens with this text between them.
    """

    vocabulary: str
    columns: tuple[str, ...]
    separator: str | None = None


@dataclass(frozen=True)
class Fitted:
    """A number of the log that is fitted on the `window` days before a row's day."""

    source: str
    window: int


class Feature(Settings, ABC):
    """What every kind says of itself."""

    name: FeatureName

    def log_columns(self) -> dict[str, str]:
        """Columns of the log that it reads, with the Spark type each is kept in."""
        return {}

    @abstractmethod
    def columns(self) -> list[SampleColumn]:
        """Columns that it gives to samples."""

    def tokens(self) -> dict[str, TokenSource]:
        """Sources of its columns with an open vocabulary."""
        return {}

    def fitted(self) -> Fitted | None:
        """What it needs to know of the distribution on earlier days."""
        return None


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


class NumberFeature(Feature):
    """A numeric column, given to the network as a number."""

    kind: Literal["number"]
    source: str | None = None
    """Column of the log; by default the one named like the feature."""
    transform: Literal["none", "log1p", "standardise"] = "log1p"
    """`log1p`: sign(x)·ln(1 + |x|). `standardise`: (x - mean) / standard deviation of the days before, within ±10."""
    window: Days | None = None
    """Only for `standardise`: how many days before the row's day it is fitted on, over both domains; 28 by default."""
    fill: float = 0.0
    """What a missing value becomes, after the transform; with `standardise` also any value of the first day."""

    @model_validator(mode="after")
    def _window_belongs_to_standardise(self) -> "NumberFeature":
        if self.window is not None and self.transform != "standardise":
            raise ValueError("'window' goes with transform 'standardise', and only with it")
        return self

    def log_columns(self) -> dict[str, str]:
        """The source as a number."""
        return {self.source or self.name: "double"}

    def columns(self) -> list[SampleColumn]:
        """One number."""
        return [SampleColumn(self.name, "number")]

    def fitted(self) -> Fitted | None:
        """The source, where it is standardised."""
        return Fitted(self.source or self.name, self.window or 28) if self.transform == "standardise" else None


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


class TimeFeature(Feature):
    """Hour of the day or day of the week of the impression, on the data set's clock."""

    kind: Literal["time"]
    part: Literal["hour", "weekday"]
    """Hour 0 … 23, or weekday 0 (Monday) … 6."""

    def columns(self) -> list[SampleColumn]:
        """One id."""
        return [SampleColumn(self.name, "id", vocabulary=self.name, values=FIXED_SIZES[self.part])]


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
        return _key_columns(self.of)

    def columns(self) -> list[SampleColumn]:
        """One id."""
        return [SampleColumn(self.name, "id", vocabulary=self.name, values=len(self.boundaries) + 1)]


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


class RateFeature(Feature):
    """Smoothed click rate and impressions over the days before: of the user, the item, or any columns together."""

    kind: Literal["rate"]
    of: list[str] = Field(min_length=1)
    """`user_id`, `item_id`, or columns of the log whose texts together name what is counted."""
    windows: list[Days] = Field(default=[7], min_length=1)
    """Lengths in days; each gives the numbers `NAME_rate_Wd` and `NAME_impressions_Wd`."""
    domains: Domains = Field(default=["natural", "ad"])
    """Whose impressions are counted; `[natural]` in an ad's sample is what the user did in the feed."""
    delay: DaysOrZero = 0
    """Days until a day is known: windows end this long before the row's day, 0 being the midnight that begins it."""
    strength: float = Field(default=20.0, gt=0)
    """Impressions that the mean click rate of the same window counts as: (clicks + strength·mean) / (impressions + strength)."""

    @model_validator(mode="after")
    def _windows_once(self) -> "RateFeature":
        if len(set(self.windows)) != len(self.windows):
            raise ValueError("a window is given twice")
        return self

    def log_columns(self) -> dict[str, str]:
        """The parts of the key as text."""
        return _key_columns(self.of)

    def columns(self) -> list[SampleColumn]:
        """Two numbers per window."""
        parts = ("rate", "impressions")
        return [SampleColumn(f"{self.name}_{part}_{days}d", "number") for days in self.windows for part in parts]


class SequenceFeature(Feature):
    """The user's latest clicked items, strictly before the impression, most recent first."""

    kind: Literal["sequence"]
    length: int = Field(default=20, ge=1, le=5000)
    """Clicks remembered; shorter histories are padded."""
    domains: Domains = Field(default=["natural", "ad"])
    """Whose clicks are remembered."""
    delay_seconds: int = Field(default=0, ge=0)
    """A click is known only this long after it happened."""
    attributes: list[str] = Field(default_factory=list)
    """Features of kind `id`: what the clicked item had there is added to its vector before attention."""
    times: bool = False
    """Whether how long ago each click was, on a logarithmic scale, is added to its vector before attention."""
    read_by: Literal["all", "minet"] = "all"
    """Which arms read it. `minet`: that one alone, which asks for the clicks of each domain; no other arm changes by it."""

    def columns(self) -> list[SampleColumn]:
        """The items, then one aligned list per attribute and one of times."""
        lists = [SampleColumn(self.name, "list", vocabulary=ITEM, length=self.length, like=ITEM)]
        lists += [
            SampleColumn(f"{self.name}_{other}", "list", length=self.length, like=other, aligned=self.name)
            for other in self.attributes
        ]
        if self.times:
            name = f"{self.name}_times"
            lists.append(
                SampleColumn(name, "list", vocabulary=name, values=AGE_BUCKETS, length=self.length, aligned=self.name)
            )
        return lists


def _key_columns(names: list[str]) -> dict[str, str]:
    """The log's columns among the parts of a key: user and item are columns of every impression."""
    return {name: "string" for name in names if name not in (USER, ITEM)}


FeatureSpec = Annotated[
    IdFeature
    | IdsFeature
    | NumberFeature
    | BucketFeature
    | QuantileFeature
    | TimeFeature
    | AgeFeature
    | CrossFeature
    | RateFeature
    | SequenceFeature,
    Field(discriminator="kind"),
]


def check_features(features: list[FeatureSpec]) -> None:
    """Refuse features that cannot stand beside one another.

    Raises:
        ValueError: A column given twice, or a sequence's attribute that is no id feature.
    """
    names = [column.name for spec in features for column in spec.columns()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"feature names given twice: {', '.join(twice)}")
    kinds: Mapping[str, str] = {spec.name: spec.kind for spec in features}
    for spec in features:
        wrong = [name for name in getattr(spec, "attributes", []) if kinds.get(name) != "id"]
        if wrong:
            known = sorted(name for name, kind in kinds.items() if kind == "id")
            raise ValueError(f"sequence {spec.name!r} has attributes {wrong}; features of kind 'id' are {known}")


class VocabularyConfig(Settings):
    """When a token earns an embedding of its own."""

    min_count: int = Field(default=2, ge=1)
    """Impressions, up to and including the day of admission, that a token needs."""
    window: Days | None = None
    """Count only the impressions of so many days, that of admission included (`14d`); by default those of all days."""
    expire_after: Days | None = None
    """Days without an impression after which nothing trains a token any more, until it returns: old samples and sequences with
    it count for its bucket. Its id stays its own until `tables compact --vocabulary` drops it."""
    oov_buckets: int = Field(default=1, ge=1)
    """Rows that all other tokens share, dealt by CRC-32 of the token."""
    share_domains: bool = True
    """Whether the same text in the natural and the ad log is the same token."""
