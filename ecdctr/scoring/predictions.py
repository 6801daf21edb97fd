"""Predictions that ranks have written, as rows of the `predictions` table."""

import hashlib
from collections.abc import Mapping
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.lake.tables import Lake


def append_predictions(lake: Lake, folders: Mapping[str, Path], arms: Mapping[str, str], seed: int) -> None:
    """Append the scores of several versions in one commit; repeating the call changes nothing.

    Args:
        lake: The tables.
        folders: Where each version's ranks have written their scores.
        arms: The arm of each version.
        seed: Seed of the run.
    """
    frames = [_frame(lake, version, folder, arms[version], seed) for version, folder in folders.items()]
    names = hashlib.sha256("\n".join(sorted(folders)).encode()).hexdigest()[:16]
    lake.append("predictions", reduce(DataFrame.unionByName, frames).coalesce(1), txn=(f"predictions/{names}", 1))


def _frame(lake: Lake, version: str, folder: Path, arm: str, seed: int) -> DataFrame:
    scores = lake.spark.read.parquet(*(str(path) for path in sorted(folder.glob("rank-*"))))
    return scores.select(
        "event_id",
        F.date_add(F.lit("1970-01-01").cast("date"), F.col("day")).alias("event_date"),
        "user_id",
        F.col("label").cast("int").alias("label"),
        "probability",
        F.lit(version).alias("model_version"),
        F.lit(arm).alias("arm"),
        F.lit(seed).cast("long").alias("seed"),
    )
