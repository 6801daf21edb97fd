"""Simulated logs on disk: the same rows however Spark cuts the work, and all or nothing."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr.config.simulator import WorldConfig
from ecdctr.datasets import simulator
from ecdctr.datasets.simulator import MARKER, SimulationSummary, simulate
from ecdctr.datasets.traffic import block_count, block_frame, calibrate
from ecdctr.exceptions import ConfigError, InputError

pytestmark = pytest.mark.spark

WORLD = WorldConfig(days=5, users=600, items=200, ads=60, ad_share=0.2, away_days=(1, 2))
COLUMNS = {
    "event_id": "string",
    "user_id": "string",
    "item_id": "string",
    "event_time": "timestamp",
    "click": "int",
    "category": "string",
    "brand": "string",
    "position": "int",
    "device": "string",
    "user_region": "string",
    "price": "double",
    "item_age": "double",
    "event_date": "date",
}


def logs(spark: SparkSession, folder: Path) -> DataFrame:
    both = [spark.read.parquet(str(folder / name)) for name in ("natural", "ads")]
    return both[0].unionByName(both[1])


def rows(frame: DataFrame) -> list[tuple[object, ...]]:
    instant = frame.withColumn("event_time", F.unix_micros("event_time"))
    return sorted(tuple(row) for row in instant.collect())


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SimulationSummary]:
    folder = tmp_path_factory.mktemp("world") / "logs"
    return folder, simulate(spark, folder, WORLD)


def test_both_logs_have_the_same_documented_columns(spark: SparkSession, made: tuple[Path, SimulationSummary]) -> None:
    for name in ("natural", "ads"):
        assert dict(spark.read.parquet(str(made[0] / name)).dtypes) == COLUMNS
    assert not (made[0] / "natural" / "_raw").exists()
    assert sorted(path.name for path in made[0].iterdir()) == [MARKER, "ads", "natural"]


def test_logs_hold_the_blocks_of_the_world(spark: SparkSession, made: tuple[Path, SimulationSummary]) -> None:
    intercepts = calibrate(WORLD)
    expected = pd.concat([block_frame(WORLD, intercepts, block) for block in range(block_count(WORLD))])
    found = logs(spark, made[0]).withColumn("at", F.unix_micros("event_time")).drop("event_time").toPandas()
    assert found["event_id"].is_unique
    assert len(found) == len(expected)
    day = dt.date(2024, 1, 1).toordinal() - dt.date(1970, 1, 1).toordinal()
    expected["at"] = (day + expected["day"]) * 86_400_000_000 + expected["microsecond"]
    expected["user_id"] = "u" + expected["user"].astype(str)
    expected["item_id"] = np.where(expected["domain"] == 0, "i", "a") + expected["item"].astype(str)
    order = ["at", "user_id", "item_id"]
    same = [*order, "click", "position", "price", "item_age"]
    pd.testing.assert_frame_equal(
        found.sort_values(order)[same].reset_index(drop=True),
        expected.sort_values(order)[same].reset_index(drop=True),
        check_dtype=False,
        check_exact=True,
    )


def test_summary_and_marker_count_what_is_there(spark: SparkSession, made: tuple[Path, SimulationSummary]) -> None:
    folder, summary = made
    marker = json.loads((folder / MARKER).read_text())
    assert summary.created
    for name, counted in (("natural", summary.natural), ("ads", summary.ads)):
        log = spark.read.parquet(str(folder / name))
        assert counted.rows == log.count() == marker[name]["rows"]
        assert counted.clicks == log.where("click = 1").count() == marker[name]["clicks"]
    assert marker["parameters"]["world"] == WORLD.model_dump(mode="json")


@pytest.mark.parametrize(("tasks", "partitions"), [(1, "1"), (3, "5")])
def test_rows_do_not_depend_on_how_the_work_is_cut(
    spark: SparkSession,
    made: tuple[Path, SimulationSummary],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tasks: int,
    partitions: str,
) -> None:
    monkeypatch.setattr(simulator, "_MAX_TASKS", tasks)
    settings = {"spark.sql.shuffle.partitions": partitions, "spark.sql.session.timeZone": "America/Los_Angeles"}
    before = {key: spark.conf.get(key) for key in settings}
    try:
        for key, value in settings.items():
            spark.conf.set(key, value)
        simulate(spark, tmp_path / "again", WORLD)
    finally:
        for key, value in before.items():
            spark.conf.set(key, value)
    again = logs(spark, tmp_path / "again")
    assert rows(again) == rows(logs(spark, made[0]))
    assert again.where(F.to_date("event_time") != F.col("event_date")).count() == 0


def test_the_same_world_is_left_alone_and_another_replaces_it(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "my logs, 5%20" / "logs"
    first = simulate(spark, folder, WORLD)
    stamp = (folder / MARKER).stat().st_mtime_ns
    second = simulate(spark, str(folder), WORLD)
    assert not second.created
    assert (second.natural, second.ads) == (first.natural, first.ads)
    assert (folder / MARKER).stat().st_mtime_ns == stamp
    third = simulate(spark, folder, WORLD.model_copy(update={"seed": 8}))
    assert third.created
    assert third.natural != first.natural
    assert [path.name for path in folder.parent.iterdir()] == ["logs"]


@pytest.mark.parametrize("stranger", ["holiday.jpg", MARKER])
def test_a_stranger_s_folder_is_refused(spark: SparkSession, tmp_path: Path, stranger: str) -> None:
    (tmp_path / stranger).write_text("{}")
    with pytest.raises(InputError, match=stranger):
        simulate(spark, tmp_path, WORLD)
    assert (tmp_path / stranger).read_text() == "{}"


def test_files_added_to_the_logs_are_not_lost(spark: SparkSession, tmp_path: Path) -> None:
    simulate(spark, tmp_path / "logs", WORLD)
    (tmp_path / "logs" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        simulate(spark, tmp_path / "logs", WORLD.model_copy(update={"seed": 8}))


def test_a_world_without_ads_leaves_nothing_behind(spark: SparkSession, tmp_path: Path) -> None:
    world = WORLD.model_copy(update={"ad_share": 1e-9})
    with pytest.raises(ConfigError, match="no ads impressions"):
        simulate(spark, tmp_path / "logs", world)
    assert list(tmp_path.iterdir()) == []
