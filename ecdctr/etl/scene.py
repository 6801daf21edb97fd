"""What a kind of feature has at hand: the rows to encode, the tables behind them, and all that was known by then."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.config import Config
from ecdctr.etl import clock, tokens
from ecdctr.etl.source import column
from ecdctr.etl.trailing import Histogram, Histograms, daily_histograms
from ecdctr.features.columns import Fitted, TokenSource
from ecdctr.lake.frames import local_frame
from ecdctr.lake.schema import CLICKED_AT, DOMAINS
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

    It is the `ecdctr.features.Scene` that features encode with.

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

    def past(self, domains: Sequence[str], since: dt.date | None, until: dt.date) -> DataFrame:
        """Impressions of some domains and days; with no first day, all before `until`."""
        frames = [_clicked(self.lake.read(f"{domain}_impressions")) for domain in DOMAINS if domain in domains]
        rows = frames[0]
        for frame in frames[1:]:
            rows = rows.unionByName(frame)
        rows = rows.where(F.col("event_date") < F.lit(until))
        return rows if since is None else rows.where(F.col("event_date") >= F.lit(since))

    def days_to_a_click(self, domains: Sequence[str]) -> int:
        """Days that a click of some domains may come after its impression's, rounded up."""
        dataset = self.config.dataset
        logs = {"natural": dataset.natural, "ad": dataset.ads}
        return max((clicks.days for domain in domains if (clicks := logs[domain].clicks)), default=0)

    def click_day(self) -> Any:
        """The day, since 1970 on the data set's clock, of an impression's click; null without one."""
        return clock.day_number(F.unix_micros(CLICKED_AT.name), self._offset)

    def before(self, fitted: Fitted, day: dt.date) -> Histogram:
        """The values of a number on the days before a day."""
        return self._histograms.before(fitted.source, day, fitted.window)

    @cached_property
    def _histograms(self) -> Histograms:
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

    def column(self, name: str) -> Any:
        """A column of the log by its exact name, whatever characters it has."""
        return column(name)

    def text(self, names: Sequence[str]) -> Any:
        """One or more columns as one text; null where all of them are missing."""
        return tokens.token(names, None)

    def hour(self) -> Any:
        """Hour of the impression, 0…23, on the data set's clock."""
        return clock.hour(F.unix_micros("event_time"), self._offset)

    def weekday(self) -> Any:
        """Day of the week of the impression on the data set's clock, Monday 0 … Sunday 6."""
        return clock.weekday(F.unix_micros("event_time"), self._offset)

    @property
    def _offset(self) -> int:
        return clock.offset_micros(self.config.dataset.day_boundary)

    def local_frame(self, rows: Sequence[Sequence[Any]], schema: str) -> DataFrame:
        """A frame of a few rows of the driver."""
        return local_frame(self.lake.spark, rows, schema)

    def token(self, source: TokenSource) -> Any:
        """A row's token of a vocabulary, or the array of its tokens where the source has a separator."""
        mark = None if self.config.vocabulary(source.vocabulary).share_domains else self.domain
        if source.separator is None:
            return tokens.token(source.columns, mark)
        return tokens.tokens(source.columns[0], source.separator, mark)

    def look_up(self, frame: DataFrame, vocabulary: str, token: Any, prefix: str) -> DataFrame:
        """Add `<prefix>token`, and `<prefix>id` and `<prefix>admitted` where the token was ever admitted."""
        return self.vocabularies.join(frame, vocabulary, token, prefix)

    def id_of(self, vocabulary: str, token: Any, known: Any) -> Any:
        """The known id of a token where it has one, else its bucket's; 1 where the token is missing."""
        return tokens.encoded(token, known, self.config.vocabulary(vocabulary).oov_buckets)

    def token_id(self, frame: DataFrame, name: str, source: TokenSource) -> tuple[DataFrame, Any]:
        """Join the vocabulary; the token's own id from its day of admission on, else its bucket's."""
        prefix = f"_{name}_"
        frame = self.look_up(frame, source.vocabulary, self.token(source), prefix)
        own = F.when(F.col(f"{prefix}admitted") <= F.col("event_date"), F.col(f"{prefix}id"))
        return frame, self.id_of(source.vocabulary, F.col(f"{prefix}token"), own)


def _clicked(impressions: DataFrame) -> DataFrame:
    """With the time of their clicks; a log that brings its labels along tells none but the impression's own."""
    if CLICKED_AT.name in impressions.columns:
        return impressions
    return impressions.withColumn(CLICKED_AT.name, F.when(F.col("label") == 1, F.col("event_time")))
