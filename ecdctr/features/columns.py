"""The columns that a feature gives to samples, and what it asks of the log for them."""

from dataclasses import dataclass
from typing import Literal

from ecdctr.features.domains import Domain

USER = "user_id"
ITEM = "item_id"


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


@dataclass(frozen=True)
class ClickLists:
    """Lists of the user's latest clicks, strictly before the impression, most recent first.

    Attributes:
        fields: What is listed of each click, a list for each: `item_id` or features with one id.
        length: Clicks in each list.
        domains: Whose clicks count.
        delay_seconds: How long after it happened a click is known.
        times: Whether one more list tells how long ago each click was: 2 + the bits of the seconds.
        read_by: Which arms read them: all, or `minet` alone.
    """

    fields: tuple[str, ...]
    length: int
    domains: tuple[Domain, ...]
    delay_seconds: int = 0
    times: bool = False
    read_by: Literal["all", "minet"] = "all"
