"""What every kind of feature is: settings, the log's columns it reads, the columns it gives to samples, and how.

User and item are fields of every data set and need no feature.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from ecdctr.features.columns import ITEM, USER, ClickLists, Fitted, SampleColumn, TokenSource
from ecdctr.features.domains import Domain
from ecdctr.features.scene import Encoded, Scene
from ecdctr.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

RESERVED = {"event_id", "event_date", "event_time", "day", "label", "weight", "user", "user_id", "item_id"}


def _name(text: str) -> str:
    if not text.isidentifier() or not text.isascii() or text.lower() != text:
        raise ValueError(f"{text!r} is no feature name; use small letters, digits and underscores")
    if text in RESERVED:
        raise ValueError(f"{text!r} is a name that every sample has already; choose another one")
    return text


FeatureName = Annotated[str, AfterValidator(_name)]
Domains = Annotated[list[Domain], Field(min_length=1)]


class Feature(Settings, ABC):
    """What every kind says of itself; one file in `ecdctr.features.kinds`, or in a package of yours, is a kind."""

    name: FeatureName
    """Of its column in the samples; where no column of the log is named, also that one's."""
    kind: str

    def log_columns(self) -> dict[str, str]:
        """Columns of the log that it reads, with the Spark type each is kept in: string or double."""
        return {}

    @abstractmethod
    def columns(self) -> list[SampleColumn]:
        """Columns that it gives to samples."""

    @abstractmethod
    def encode(self, frame: "DataFrame", scene: Scene) -> Encoded:
        """Compute its columns on Spark; what it reads of other rows must lie strictly before the row's day.

        pyspark is imported here and not at the head of the file: commands and training ranks read configurations, and
        do not wait for Spark.

        Args:
            frame: The impressions, with what features before this one have joined to them.
            scene: All else that is known by then.

        Returns:
            The rows, perhaps with further columns joined to them under names that begin with `_NAME_`, and one
            expression per column of the sample.
        """

    def tokens(self) -> dict[str, TokenSource]:
        """Sources of its columns with an open vocabulary."""
        return {}

    def fitted(self) -> Fitted | None:
        """What it needs to know of the distribution on earlier days."""
        return None

    def clicks(self) -> ClickLists | None:
        """The lists of clicks that it consists of, if so: its columns are these, in order, and it encodes nothing itself.

        All features' lists are made together of the encoded rows, by `ecdctr.etl.sequences`.
        """
        return None

    def check_beside(self, features: Mapping[str, "Feature"]) -> None:
        """Refuse to stand beside the other features, by name.

        Raises:
            ValueError: It refers to a feature that is not there, or of another kind.
        """


def key_columns(names: list[str]) -> dict[str, str]:
    """The log's columns among the parts of a key: user and item are columns of every impression."""
    return {name: "string" for name in names if name not in (USER, ITEM)}
