"""Rows of the ad log of one day, of whom nobody knows yet who clicks: read and encoded as the samples of that day are."""

import datetime as dt
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr.config import Config
from ecdctr.config.dataset import DatasetConfig
from ecdctr.etl.encode import encode
from ecdctr.etl.ingest import clean_impressions, look_through, refuse_bad_rows
from ecdctr.etl.scene import Scene, Vocabularies
from ecdctr.etl.sequences import click_lists, clicks, with_sequences
from ecdctr.exceptions import InputError, NotReadyError
from ecdctr.features.feature_set import FeatureSet
from ecdctr.lake.outputs import is_delta
from ecdctr.lake.tables import Lake

logger = logging.getLogger(__name__)

DOMAIN = "ad"
ITEM_TEXT = "_item"
"""Column of encoded requests: the item as the log has it."""
DAYS_SHOWN = 3
_DAY = dt.timedelta(days=1)
_MAPPING = re.compile(r"dataset\.ads(\.path)?(?=[: ])")


@dataclass(frozen=True)
class _Requests(Scene):
    """A scene whose rows stand in no table yet."""

    rows: DataFrame

    @property
    def impressions(self) -> DataFrame:
        """The rows to encode."""
        return self.rows


def read_requests(spark: SparkSession, config: Config, path: str, day: dt.date) -> DataFrame:
    """The good rows of one day, each event once, in the types of impressions; `label` is null.

    The configuration's mapping of the ad log says what the columns mean, and derives, filters and joins as for the log.

    Args:
        spark: The session.
        config: The configuration.
        path: A Delta table, or a file or folder of Parquet or CSV.
        day: Rows of other days are left out.

    Raises:
        InputError: The rows do not fit the mapping, or some are bad and not to be dropped.
        NotReadyError: There is no row of the day.
    """
    dataset = _without_labels(spark, config.dataset, path)
    with _named_as_given():
        found = look_through(spark, dataset, DOMAIN)
        if not dataset.drop_bad_rows:
            refuse_bad_rows(found, day, day + _DAY)
    bad = found.bad_in(day, day + _DAY)
    if bad:
        logger.warning("%s: %s bad rows are left out", path, f"{bad:,}")
    if day not in found.days:
        days = sorted(found.days)
        shown = ", ".join(map(str, days[:DAYS_SHOWN])) + (f", … {days[-1]}" if len(days) > DAYS_SHOWN else "")
        raise NotReadyError(
            f"{path} has no good row of {day}; found {shown or 'none at all'}",
            hint="call again when the rows of the day have come, or give their day as --date",
        )
    return clean_impressions(found, dataset, day, day + _DAY, None)


def encode_requests(lake: Lake, config: Config, features: FeatureSet, rows: DataFrame, day: dt.date) -> DataFrame:
    """The columns of the sample contract, and event_id, event_date, day, user and item as texts.

    Each feature sees what it sees in a sample of that day: other rows of days before, and of clicks those that happened
    before the row itself, as far as the tables have them.

    Args:
        lake: Tables prepared up to `day` at least.
        config: The configuration.
        features: The sample contract.
        rows: What `read_requests` gives.
        day: Their day.
    """
    scene = _Requests(lake, config, DOMAIN, day, day + _DAY, Vocabularies(lake, day + _DAY), rows)
    encoded = encode(scene, features, {ITEM_TEXT: "item_id"}).drop("label")
    encoded = encoded.withColumn("day", F.unix_date("event_date"))
    if not click_lists(config):
        return encoded.drop("event_time")
    return with_sequences(encoded, clicks(scene), config)


def _without_labels(spark: SparkSession, dataset: DatasetConfig, path: str) -> DatasetConfig:
    """The mapping of the ad log for other rows, of which none is labelled."""
    columns = dataset.columns_of(dataset.ads)
    unlabelled = {
        "path": path,
        "format": _format(spark, path),
        "columns": columns.model_copy(update={"label": None}),
        "derive": {name: sql for name, sql in dataset.ads.derive.items() if name != columns.label},
        "clicks": None,
        "negatives": None,
    }
    return dataset.model_copy(update={"ads": dataset.ads.model_copy(update=unlabelled)})


def _format(spark: SparkSession, path: str) -> str:
    if is_delta(spark, path):
        return "delta"
    local = Path(path)
    files = local.rglob("*") if "://" not in path and local.is_dir() else [local]
    return "csv" if any(file.name.endswith((".csv", ".csv.gz")) for file in files) else "parquet"


@contextmanager
def _named_as_given() -> Iterator[None]:
    """Speak of the rows as the caller named them, not of the log that they are read like."""
    try:
        yield
    except InputError as error:
        raise InputError(_MAPPING.sub("--input", error.message), hint=error.hint) from error
