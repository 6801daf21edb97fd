"""Predictions that ranks have written, as rows of the `predictions` table."""

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.lake.paths import spark_path
from ecdctr.lake.tables import Lake

_EPOCH = dt.date(1970, 1, 1)


def append_predictions(lake: Lake, folders: Mapping[str, Path], arms: Mapping[str, str], seed: int) -> None:
    """Append the scores of several versions in one commit; events that the table has of a version are not appended again.

    A run that was killed behind the commit may publish the same versions in other groups than before, and a day's further rows
    are scored when they come.

    Args:
        lake: The tables.
        folders: Where each version's ranks have written their scores.
        arms: The arm of each version.
        seed: Seed of the run.
    """
    staged = {version: _rows_by_day(folder) for version, folder in folders.items()}
    stored = rows_scored(lake, {day for days in staged.values() for day in days})
    frames, states = [], []
    for version, days in sorted(staged.items()):
        before = sum(stored[version, day] for day in days)
        if days and before < days.total():
            rows = _frame(lake, version, folders[version], arms[version], seed)
            frames.append(_less_stored(rows, lake, version, days) if before else rows)
            states.append(f"{version} {before} {days.total()}")
    if frames:
        # Two commands that have found the same state and append at once are one.
        names = hashlib.sha256("\n".join(states).encode()).hexdigest()[:16]
        lake.append("predictions", reduce(DataFrame.unionByName, frames).coalesce(1), txn=(f"predictions/{names}", 1))


def rows_scored(lake: Lake, days: Collection[dt.date]) -> Counter[tuple[str, dt.date]]:
    """How many rows of each day each version has scored; read from the table's files, without Spark.

    Args:
        lake: The tables.
        days: The days to look at.

    Returns:
        Rows by version and day; 0 for others.
    """
    found: Counter[tuple[str, dt.date]] = Counter()
    if not days or not lake.exists("predictions"):
        return found
    for file in lake.pin("predictions", min(days), max(days) + dt.timedelta(days=1)).files:
        if file.event_date is not None and file.event_date in days:
            versions = pq.read_table(file.path, columns=["model_version"], read_dictionary=["model_version"])[0]
            for pair in versions.value_counts().to_pylist():
                found[pair["values"], file.event_date] += pair["counts"]
    return found


def _rows_by_day(folder: Path) -> Counter[dt.date]:
    """What the ranks have written, by day."""
    days = [pq.read_table(file, columns=["day"])[0] for file in sorted(folder.glob("rank-*/*.parquet"))]
    counts = pa.chunked_array(days, pa.int32()).value_counts().to_pylist()
    return Counter({_EPOCH + dt.timedelta(days=pair["values"]): pair["counts"] for pair in counts})


def _less_stored(rows: DataFrame, lake: Lake, version: str, days: Collection[dt.date]) -> DataFrame:
    stored = lake.read("predictions").where(
        F.col("event_date").isin(sorted(days)) & (F.col("model_version") == version)
    )
    stored = stored.select("event_id")
    return rows.join(stored, "event_id", "left_anti").select(rows.columns)


def _frame(lake: Lake, version: str, folder: Path, arm: str, seed: int) -> DataFrame:
    scores = lake.spark.read.parquet(*(spark_path(path) for path in sorted(folder.glob("rank-*"))))
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
