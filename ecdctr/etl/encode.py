"""Impressions → ids and numbers: one encoder per kind of feature."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from pyspark.sql import Column as Expression
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.config import Config
from ecdctr.config.dataset import DatasetConfig
from ecdctr.config.features import BucketFeature, NumberFeature, TimeFeature
from ecdctr.etl import clock
from ecdctr.etl.source import column
from ecdctr.etl.tokens import encoded, token
from ecdctr.features.encoding import FIRST_BUCKET, MISSING
from ecdctr.features.feature_set import FeatureSet, token_sources
from ecdctr.lake.tables import Lake

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


def encode(
    frame: DataFrame, config: Config, features: FeatureSet, domain: str, vocabularies: Vocabularies
) -> DataFrame:
    """Impressions of one domain with one column per id field and number instead of the log's columns.

    A token has its id from its day of admission on; before, and where it never was admitted, it has its bucket's.

    Args:
        frame: Clean impressions.
        config: The configuration.
        features: The sample contract.
        domain: natural or ad.
        vocabularies: Tokens known by the end of the days to encode.

    Returns:
        event_id, user_id (text, as `user`), event_time, event_date, label, the id fields and the numbers.
    """
    dataset = config.dataset
    ids: dict[str, Any] = _fixed_fields(dataset)
    for place, (name, (vocabulary, columns)) in enumerate(token_sources(dataset).items()):
        rules, prefix = config.vocabulary(vocabulary), f"_{place}_"
        text = token(columns, None if rules.share_domains else domain)
        frame = vocabularies.join(frame, vocabulary, text, prefix)
        own = F.when(F.col(f"{prefix}admitted") <= F.col("event_date"), F.col(f"{prefix}id"))
        ids[name] = encoded(F.col(f"{prefix}token"), own, rules.oov_buckets)
    numbers = {spec.name: _number(spec) for spec in dataset.features if isinstance(spec, NumberFeature)}
    return frame.select(
        "event_id",
        F.col("user_id").alias("user"),
        "event_time",
        "event_date",
        "label",
        *(ids[name].alias(name) for name in features.id_fields),
        *(numbers[name].alias(name) for name in features.number_fields),
    )


def _fixed_fields(dataset: DatasetConfig) -> dict[str, Any]:
    """Fields whose values the configuration fixes: value v is id 2 + v."""
    offset = clock.offset_micros(dataset.day_boundary)
    micros = F.unix_micros("event_time")
    parts: dict[str, Callable[[Any, int], Any]] = {"hour": clock.hour, "weekday": clock.weekday}
    fields: dict[str, Any] = {}
    for spec in dataset.features:
        if isinstance(spec, TimeFeature):
            fields[spec.name] = (parts[spec.part](micros, offset) + F.lit(FIRST_BUCKET)).cast("bigint")
        elif isinstance(spec, BucketFeature):
            fields[spec.name] = _bucket(spec)
    return fields


def _bucket(spec: BucketFeature) -> Expression:
    """2 + the number of boundaries that the value has reached; 1 where it is missing."""
    value = column(spec.source or spec.name)
    reached = F.lit(FIRST_BUCKET)
    for boundary in spec.boundaries:
        reached = reached + F.when(value >= boundary, 1).otherwise(0)
    missing = value.isNull() | F.isnan(value)
    return F.when(missing, F.lit(MISSING)).otherwise(reached).cast("bigint")


def _number(spec: NumberFeature) -> Expression:
    """The value after its transform as float; `fill` where it is missing or not finite."""
    value = column(spec.source or spec.name)
    if spec.transform == "log1p":
        value = F.signum(value) * F.log1p(F.abs(value))
    single = value.cast("float")
    limit = F.lit(float("inf"))
    finite = single.isNotNull() & ~F.isnan(single) & (F.abs(single) < limit)
    return F.when(finite, single).otherwise(F.lit(spec.fill).cast("float")).cast("float")
