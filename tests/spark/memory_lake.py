"""A lake whose tables are frames: what samples are made of, without a commit for each of them."""

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr.config import Config
from ecdctr.etl.scene import Scene, Vocabularies
from ecdctr.etl.sequences import clicks, with_sequences
from ecdctr.features.feature_set import feature_set, log_columns
from ecdctr.lake.frames import local_frame

DOMAINS = ("natural", "ad")


class MemoryLake:
    """Impressions as `prepare` would have written them, and a vocabulary."""

    def __init__(self, spark: SparkSession, config: Config, raw: dict[str, pd.DataFrame]) -> None:
        self.spark, self.config = spark, config
        buckets = {name: rules.oov_buckets for name, rules in config.vocabularies.items()}
        self.features = feature_set(config.dataset.features, buckets)
        self.frames = {f"{domain}_impressions": self._impressions(raw[domain]) for domain in DOMAINS}

    def _impressions(self, raw: pd.DataFrame) -> DataFrame:
        columns: dict[str, Any] = {
            "event_id": raw["event_id"],
            "user_id": raw["user_id"].astype(str),
            "item_id": raw["item"],
        }
        columns |= {
            "event_time": [moment.to_pydatetime() for moment in raw["ts"].dt.tz_localize("UTC")],
            "event_date": raw["ts"].dt.date,
            "label": raw["click"],
        }
        schema = "event_id string, user_id string, item_id string, event_time timestamp, event_date date, label int"
        for name, kind in log_columns(self.config.dataset.features).items():
            if name not in columns:
                columns[name] = raw[name].astype(float) if kind == "double" else raw[name]
                schema += f", `{name}` {kind}"
        # What ingest keeps of a value that is empty or missing.
        listed = [[None if value == "" or pd.isna(value) else value for value in column] for column in columns.values()]
        return local_frame(self.spark, list(zip(*listed, strict=True)), schema)

    def read(self, name: str, version: int | None = None) -> DataFrame:
        return self.frames[name]

    def exists(self, name: str) -> bool:
        return name in self.frames

    def create(self, name: str) -> None:
        schema = "field string, token string, id bigint, first_seen date, last_seen date, count bigint, admitted date"
        self.frames.setdefault(name, local_frame(self.spark, [], schema))

    def append(self, name: str, frame: DataFrame, *commit: object) -> None:
        rows = [*self.frames[name].collect(), *frame.select(self.frames[name].columns).collect()]
        self.frames[name] = local_frame(self.spark, rows, self.frames[name].schema)

    def snapshot(self, name: str) -> SimpleNamespace:
        rows = self.frames[name].count() if name == "vocabulary" else 0
        files = [SimpleNamespace(rows=rows, event_date=None)] if rows else []
        return SimpleNamespace(files=files, partitions=[{"field": None}] * len(files), version=0)

    def know(self, words: dict[str, dict[str, tuple[int, dt.date]]]) -> None:
        """Make the vocabulary of tokens with their ids and days of admission."""
        rows = [(field, token, *known) for field, tokens in words.items() for token, known in tokens.items()]
        schema = "field string, token string, id bigint, admitted date"
        self.frames["vocabulary"] = local_frame(self.spark, rows, schema)

    def forget(self, since: dt.date) -> None:
        """Leave out all impressions from a day on."""
        for domain in DOMAINS:
            name = f"{domain}_impressions"
            self.frames[name] = self.frames[name].where(F.col("event_date") < F.lit(since))

    def encoded(self, kind: str, domain: str, since: dt.date, until: dt.date) -> pd.DataFrame:
        """The columns of all features of one kind, by event id."""
        scene = Scene(self, self.config, domain, since, until, Vocabularies(self, until))
        frame, columns = scene.impressions, {}
        for spec in self.config.dataset.features:
            if spec.kind == kind:
                frame, made = spec.encode(frame, scene)
                columns |= made
        if columns:
            frame = frame.select("event_id", *(column.alias(name) for name, column in columns.items()))
        else:
            day = F.unix_date("event_date").alias("day")
            rows = frame.select("event_id", F.col("user_id").alias("user"), "event_time", day)
            frame = with_sequences(rows, clicks(scene), self.config).drop("user", "day")
        return frame.toPandas().sort_values("event_id", ignore_index=True)
