"""What an encoder has at hand: the rows to encode, the tables behind them, and all that was known by then."""

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.config import Config
from ecdctr.etl.trailing import Histograms, daily_histograms
from ecdctr.lake.schema import DOMAINS
from ecdctr.lake.tables import Lake

_SPAN = 1 << 32
BROADCAST_TOKENS = 200_000
"""A vocabulary up to this size is sent to every task; a larger one is joined by shuffling, so that no driver holds it."""


class Vocabularies:
    """The vocabulary table as the encoder joins it.

    Args:
        lake: The tables.
        until: Tokens admitted on or after this day do not exist yet.
    """

    def __init__(self, lake: Lake, until: dt.date) -> None:
        snapshot = lake.snapshot("vocabulary")
        self.sizes: dict[str | None, int] = {}
        for file, values in zip(snapshot.files, snapshot.partitions, strict=True):
            self.sizes[values["field"]] = self.sizes.get(values["field"], 0) + file.rows
        self._table = lake.read("vocabulary", snapshot.version).where(F.col("admitted") < F.lit(until))

    def join(self, frame: DataFrame, name: str, text: Any, prefix: str) -> DataFrame:
        """Add `<prefix>token`, and `<prefix>id` and `<prefix>admitted` where the token was ever admitted."""
        words = self._table.where(F.col("field") == name).select(
            F.col("token").alias(f"{prefix}word"),
            F.col("id").alias(f"{prefix}id"),
            F.col("admitted").alias(f"{prefix}admitted"),
        )
        if self.sizes.get(name, 0) <= BROADCAST_TOKENS:
            words = F.broadcast(words)
        named = frame.withColumn(f"{prefix}token", text)
        return named.join(words, F.col(f"{prefix}token") == F.col(f"{prefix}word"), "left").drop(f"{prefix}word")


@dataclass(frozen=True)
class Scene:
    """Impressions of one domain and some days, and where what was known before them stands.

    Attributes:
        lake: Tables with impressions and vocabulary of all days before `until`.
        config: The configuration.
        domain: natural or ad.
        since: First day to encode.
        until: The day after the last.
        vocabularies: Tokens known by the end of the days to encode.
    """

    lake: Lake
    config: Config
    domain: str
    since: dt.date
    until: dt.date
    vocabularies: Vocabularies

    @property
    def negatives_kept(self) -> float:
        """Share of the rows without a click that are encoded."""
        return self.config.dataset.negative_sampling.natural if self.domain == "natural" else 1.0

    @property
    def impressions(self) -> DataFrame:
        """The rows to encode."""
        rows, share = self.past([self.domain], self.since, self.until), self.negatives_kept
        if share == 1.0:
            return rows
        place = F.pmod(F.xxhash64("event_id", F.lit("negative")), F.lit(_SPAN)) / _SPAN
        return rows.where((F.col("label") == 1) | (place < share))

    def past(self, domains: list[str], since: dt.date | None, until: dt.date) -> DataFrame:
        """Impressions of some domains and days; with no first day, all before `until`."""
        frames = [self.lake.read(f"{domain}_impressions") for domain in DOMAINS if domain in domains]
        rows = frames[0]
        for frame in frames[1:]:
            rows = rows.unionByName(frame)
        rows = rows.where(F.col("event_date") < F.lit(until))
        return rows if since is None else rows.where(F.col("event_date") >= F.lit(since))

    @cached_property
    def histograms(self) -> Histograms:
        """Of all numbers that are fitted on earlier days, counted in one pass over both domains."""
        windows: dict[str, int] = {}
        for spec in self.config.dataset.features:
            column = spec.fitted()
            if column is not None:
                windows[column.source] = max(column.window, windows.get(column.source, 0))
        past = self.past(list(DOMAINS), self.since - dt.timedelta(days=max(windows.values(), default=0)), self.until)
        return daily_histograms(past, list(windows))

    def days(self) -> list[dt.date]:
        """The days to encode."""
        return [self.since + dt.timedelta(days=place) for place in range((self.until - self.since).days)]
