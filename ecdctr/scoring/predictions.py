"""Predictions that ranks have written, as rows of the `predictions` table."""

import datetime as dt
import hashlib
from collections.abc import Mapping
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.lake.tables import Lake

_EPOCH = dt.date(1970, 1, 1)


def append_predictions(lake: Lake, folders: Mapping[str, Path], arms: Mapping[str, str], seed: int) -> None:
    """Append the scores of several versions in one commit; what the table has of a version is not appended again.

    A run that was killed behind the commit may publish the same versions in other groups than before.

    Args:
        lake: The tables.
        folders: Where each version's ranks have written their scores.
        arms: The arm of each version.
        seed: Seed of the run.
    """
    new = {version: folder for version, folder in folders.items() if not _is_there(lake, version, folder)}
    if not new:
        return
    frames = [_frame(lake, version, folder, arms[version], seed) for version, folder in new.items()]
    names = hashlib.sha256("\n".join(sorted(new)).encode()).hexdigest()[:16]
    lake.append("predictions", reduce(DataFrame.unionByName, frames).coalesce(1), txn=(f"predictions/{names}", 1))


def _is_there(lake: Lake, version: str, folder: Path) -> bool:
    days = [pq.read_table(file, columns=["day"])[0] for file in sorted(folder.glob("rank-*/*.parquet"))]
    first = pc.min(pa.chunked_array(days, pa.int32())).as_py() if days else None
    return first is not None and has_predictions(lake, version, _EPOCH + dt.timedelta(days=first))


def has_predictions(lake: Lake, version: str, date: dt.date) -> bool:
    """Whether a version has scored a day; read from the table's files, without Spark."""
    if not lake.exists("predictions"):
        return False
    files = lake.pin("predictions", date, date + dt.timedelta(days=1)).files
    return any(version in pq.read_table(file.path, columns=["model_version"])[0].unique().to_pylist() for file in files)


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
