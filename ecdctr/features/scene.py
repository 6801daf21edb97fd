"""What a kind has at hand when it encodes; `ecdctr.etl.scene` is it."""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ecdctr.features.columns import Fitted, TokenSource

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Encoded: TypeAlias = "tuple[DataFrame, dict[str, Any]]"
"""Rows, and one expression per column of the sample."""


class Distribution(Protocol):
    """Values of a number on some days, each rounded to three significant digits."""

    def moments(self) -> tuple[float, float] | None:
        """Mean and standard deviation; None without values."""

    def quantiles(self, parts: int) -> list[float]:
        """The `parts - 1` smallest values that 1/parts, 2/parts, … of the rows do not exceed; none without values."""


class Scene(Protocol):
    """Impressions of one domain and some days, and all that was known before them."""

    @property
    def since(self) -> dt.date:
        """First day to encode."""

    @property
    def until(self) -> dt.date:
        """The day after the last."""

    @property
    def impressions(self) -> "DataFrame":
        """The rows to encode: event_id, user_id, item_id, event_time, event_date, label, and columns of the log."""

    def days(self) -> list[dt.date]:
        """The days to encode."""

    def past(self, domains: Sequence[str], since: dt.date | None, until: dt.date) -> "DataFrame":
        """Impressions of some domains and days `[since, until)`; with no first day, all before `until`.

        `clicked_at` is when each was clicked, which a later row alone may know.
        """

    def days_to_a_click(self, domains: Sequence[str]) -> int:
        """Days that a click of some domains may come after its impression's, rounded up; 0 where rows bring their labels along."""

    def click_day(self) -> Any:
        """The day, since 1970, of an impression's click; null without one."""

    def column(self, name: str) -> Any:
        """A column of the log by its exact name, whatever characters it has."""

    def text(self, names: Sequence[str]) -> Any:
        """One or more columns as one text, such as a key; null where all of them are missing."""

    def hour(self) -> Any:
        """Hour of the impression, 0…23, on the data set's clock."""

    def weekday(self) -> Any:
        """Day of the week of the impression on the data set's clock, Monday 0 … Sunday 6."""

    def before(self, fitted: Fitted, day: dt.date) -> Distribution:
        """A number's values on the days before a day; only of what the feature's `fitted` names."""

    def local_frame(self, rows: Sequence[Sequence[Any]], schema: str) -> "DataFrame":
        """A frame of a few rows of the driver, such as one per day; the schema is DDL."""

    def token(self, source: TokenSource) -> Any:
        """A row's token of a vocabulary, or the array of its tokens where the source has a separator."""

    def look_up(self, frame: "DataFrame", vocabulary: str, token: Any, prefix: str) -> "DataFrame":
        """Add `<prefix>token`, and `<prefix>id` and `<prefix>admitted`, a day, where the token was ever admitted."""

    def id_of(self, vocabulary: str, token: Any, known: Any) -> Any:
        """The known id of a token where it has one, else its bucket's; 1 where the token is missing."""

    def token_id(self, frame: "DataFrame", name: str, source: TokenSource) -> tuple["DataFrame", Any]:
        """The id of each row's one token: its own from its day of admission on, else its bucket's.

        Args:
            frame: The rows.
            name: Of the column that it is for.
            source: Where the token comes from.

        Returns:
            The rows with the vocabulary joined to them, and the id.
        """
