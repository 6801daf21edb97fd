"""Rules of vocabularies."""

from pydantic import Field

from ecdctr.durations import Days
from ecdctr.settings import Settings


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
