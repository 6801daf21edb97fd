"""Natural and ad logs of one simulated world, written by Spark at any size.

Parquet below `OUT/natural` and `OUT/ads`, one folder `event_date=YYYY-MM-DD` per day, both with the same columns. Rows
depend on the parameters alone: not on partitions, cores or the session's settings.
"""

import contextlib
import datetime as dt
import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr.artifacts.files import new_folder, write_json
from ecdctr.config.simulator import WorldConfig
from ecdctr.datasets.traffic import FRAME_COLUMNS, block_count, block_frame, calibrate
from ecdctr.datasets.world import DEVICES
from ecdctr.exceptions import ConfigError, InputError
from ecdctr.lake.paths import spark_path
from ecdctr.lake.python_workers import keep_archives_read

logger = logging.getLogger(__name__)

MARKER = "_world.json"
GENERATOR_VERSION = 1
"""Raised whenever the same parameters give other rows than before."""
_FOLDERS = ("natural", "ads")
_MICROSECONDS_PER_DAY = 86_400_000_000
_MAX_TASKS = 4096
_SQL_TYPES = {"int64": "BIGINT", "float64": "DOUBLE"}
_EPOCH = dt.date(1970, 1, 1)


class LogSummary(BaseModel):
    """Counts of one log."""

    model_config = ConfigDict(frozen=True)

    rows: int
    clicks: int


class _Marker(BaseModel):
    """What tells a folder of this module from any other."""

    model_config = ConfigDict(frozen=True)

    parameters: dict[str, Any]
    natural: LogSummary
    ads: LogSummary


class SimulationSummary(BaseModel):
    """What lies in a folder of simulated logs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    natural: LogSummary
    ads: LogSummary
    created: bool
    """False: the same world was there already."""
    seconds: float


def simulate(spark: SparkSession, out: Path | str, world: WorldConfig) -> SimulationSummary:
    """Write the logs of one world, all or nothing.

    Args:
        spark: A running session.
        out: Folder to make. The same world already there is left as it is; another world is replaced.
        world: Its parameters.

    Raises:
        InputError: `out` holds something that this function did not write.
        ConfigError: The world is so small that one of the logs is empty.
    """
    began = time.monotonic()
    target = Path(out).resolve()
    parameters = {"generator": GENERATOR_VERSION, "world": world.model_dump(mode="json")}
    marker = _read_marker(target)
    created = marker is None or marker.parameters != parameters or not all((target / n).is_dir() for n in _FOLDERS)
    if marker is None or created:
        with new_folder(target) as folder:
            marker = _fill(spark, folder, world, parameters)
    summary = SimulationSummary(
        folder=target, natural=marker.natural, ads=marker.ads, created=created, seconds=time.monotonic() - began
    )
    logger.info(
        "%s: %d natural and %d ad impressions, %s",
        target,
        summary.natural.rows,
        summary.ads.rows,
        f"made in {summary.seconds:.1f} s" if created else "there already",
    )
    return summary


def _fill(spark: SparkSession, folder: Path, world: WorldConfig, parameters: dict[str, Any]) -> _Marker:
    raw = folder / "_raw"
    _write(impressions(spark, world), raw)
    for domain, name in enumerate(_FOLDERS):
        written = raw / f"domain={domain}"
        if not written.is_dir():
            raise ConfigError(
                f"the world has no {name} impressions: {world.users} users, {world.days} days, "
                f"{world.impressions_per_user_day} impressions per user and day, ad_share {world.ad_share}",
                hint="raise users, days, impressions_per_user_day or, for ads, ads and ad_share",
            )
        written.rename(folder / name)
    shutil.rmtree(raw)
    counts = {name: _count(spark, folder / name) for name in _FOLDERS}
    marker = _Marker(parameters=parameters, natural=counts["natural"], ads=counts["ads"])
    write_json(folder / MARKER, marker.model_dump())
    return marker


def impressions(spark: SparkSession, world: WorldConfig) -> DataFrame:
    """Both logs as one lazy frame: the columns of a log, `event_date`, and `domain` (0 natural, 1 ads)."""
    intercepts = calibrate(world)
    blocks = block_count(world)
    tasks = min(blocks, _MAX_TASKS, max(4 * spark.sparkContext.defaultParallelism, blocks // 16))

    def generate(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        keep_archives_read()
        for batch in batches:
            for block in batch["id"]:
                yield block_frame(world, intercepts, int(block))

    schema = ", ".join(f"{name} {_SQL_TYPES[kind]} NOT NULL" for name, kind in FRAME_COLUMNS.items())
    return spark.range(0, blocks, 1, tasks).mapInPandas(generate, schema).select(*_log_columns(world))


def _log_columns(world: WorldConfig) -> list[Column]:
    letter = F.when(F.col("domain") == 0, "i").otherwise("a")
    first = F.lit((world.start - _EPOCH).days * _MICROSECONDS_PER_DAY)
    device = F.element_at(F.array(*[F.lit(name) for name in DEVICES]), (F.col("device") + 1).cast("int"))
    serial = F.concat_ws("-", F.when(F.col("domain") == 0, "n").otherwise("a"), "day", "block", "serial")
    return [
        serial.alias("event_id"),
        F.concat(F.lit("u"), "user").alias("user_id"),
        F.concat(letter, "item").alias("item_id"),
        F.timestamp_micros(first + F.col("day") * _MICROSECONDS_PER_DAY + F.col("microsecond")).alias("event_time"),
        F.col("click").cast("int").alias("click"),
        F.concat(F.lit("c"), F.lpad(F.col("category").cast("string"), 2, "0")).alias("category"),
        F.concat(F.lit("b"), "brand").alias("brand"),
        F.col("position").cast("int").alias("position"),
        device.alias("device"),
        F.concat(F.lit("r"), "region").alias("user_region"),
        F.col("price"),
        F.col("item_age"),
        F.date_add(F.lit(world.start), F.col("day").cast("int")).alias("event_date"),
        F.col("domain"),
    ]


def _write(frame: DataFrame, folder: Path) -> None:
    folders = ("domain", "event_date")
    # Whole days per task, yet a large day is cut: files are neither many nor huge.
    balanced = frame.hint("rebalance", *[F.col(name) for name in folders])
    ordered = balanced.sortWithinPartitions(*folders, "event_time", "event_id")
    ordered.write.partitionBy(*folders).parquet(spark_path(folder))


def _count(spark: SparkSession, folder: Path) -> LogSummary:
    log = spark.read.parquet(spark_path(folder))
    rows, clicks = log.agg(F.count("*"), F.sum("click")).collect()[0]
    return LogSummary(rows=rows, clicks=clicks)


def _read_marker(folder: Path) -> _Marker | None:
    """The marker of an earlier world in `folder`; None where there is nothing."""
    if not folder.exists():
        return None
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [folder.name]
    if not found:
        return None
    if MARKER in found and set(found) <= {MARKER, *_FOLDERS}:
        with contextlib.suppress(OSError, ValueError):
            return _Marker.model_validate_json((folder / MARKER).read_bytes())
    raise InputError(
        f"{folder}: found {', '.join(found[:5])}, expected an empty folder or logs of the simulator",
        hint="give another folder, or move these files away yourself",
    )
