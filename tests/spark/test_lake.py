"""Tables: created by schema, written whole, pinned exactly."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecdctr.exceptions import ConfigError, InputError
from ecdctr.lake.frames import local_frame
from ecdctr.lake.schema import TABLES
from ecdctr.lake.tables import Lake, PinnedFiles

pytestmark = pytest.mark.spark

DAYS = [dt.date(2024, 1, day) for day in range(1, 5)]


@pytest.fixture
def lake(spark, tmp_path):
    return Lake(spark, tmp_path)


def predictions(spark, days, probability=0.5, label=1):
    rows = [(f"e{day}", day, "u", label, probability, "v", "ecdctr", 1) for day in days]
    return local_frame(spark, rows, spark_schema("predictions"))


def spark_schema(name):
    return ", ".join(f"`{column.name}` {column.type}" for column in TABLES[name].columns)


def test_every_table_is_created_as_documented(lake):
    for name in ("ledger", "predictions"):
        lake.create(name)
        lake.create(name)
        assert lake.version(name) == 0
        spec, fields = TABLES[name], lake.snapshot(name).schema["fields"]
        assert [field["name"] for field in fields] == [column.name for column in spec.columns]
        assert [field["nullable"] for field in fields] == [column.nullable for column in spec.columns]
        assert [field["metadata"]["comment"] for field in fields] == [column.comment for column in spec.columns]
        constraints = {key for key in lake.snapshot(name).properties if key.startswith("delta.constraints.")}
        assert constraints == {f"delta.constraints.{check}" for check in spec.checks}


def test_a_row_that_breaks_a_constraint_is_refused_and_the_table_stays(lake, spark):
    lake.append("predictions", predictions(spark, DAYS[:1]))
    for bad in (predictions(spark, DAYS[:1], label=2), predictions(spark, DAYS[:1], probability=1.5)):
        with pytest.raises(Exception, match="CHECK constraint"):
            lake.append("predictions", bad)
    assert lake.read("predictions").count() == 1


def test_days_are_replaced_whole_and_repetition_changes_nothing(lake, spark):
    lake.replace_days("predictions", predictions(spark, DAYS), DAYS[0], DAYS[3] + dt.timedelta(days=1))
    for _ in range(2):
        lake.replace_days("predictions", predictions(spark, DAYS[1:3], 0.9), DAYS[1], DAYS[3])
    rows = {row["event_date"]: row["probability"] for row in lake.read("predictions").collect()}
    assert rows == {DAYS[0]: 0.5, DAYS[1]: 0.9, DAYS[2]: 0.9, DAYS[3]: 0.5}
    with pytest.raises(Exception, match="REPLACE_WHERE_MISMATCH"):
        lake.replace_days("predictions", predictions(spark, DAYS), DAYS[1], DAYS[3])
    with pytest.raises(InputError, match="has no day"):
        lake.replace_days("predictions", predictions(spark, []), DAYS[1], DAYS[1])
    assert lake.read("predictions").count() == 4


def test_a_transaction_is_written_once(lake, spark):
    for _ in range(2):
        lake.append("predictions", predictions(spark, DAYS[:2]), txn=("job", 5))
    assert lake.read("predictions").count() == 2
    assert lake.transaction("predictions", "job") == 5
    assert lake.transaction("predictions", "other") is None


def test_a_pin_names_the_files_of_its_version_and_no_others(lake, spark):
    lake.replace_days("predictions", predictions(spark, DAYS), DAYS[0], DAYS[3] + dt.timedelta(days=1), note="n")
    old = lake.pin("predictions")
    assert lake.note("predictions") == "n"
    lake.replace_days("predictions", predictions(spark, DAYS[:1], 0.1), DAYS[0], DAYS[1])
    new = lake.pin("predictions", DAYS[0], DAYS[2])
    stray = Path(old.files[0].path).with_name("part-00000-stray.snappy.parquet")
    stray.write_bytes(Path(old.files[0].path).read_bytes())
    assert (old.version, old.rows, new.version, new.rows) == (1, 4, 2, 2)
    assert [file.event_date for file in old.files] == DAYS
    assert lake.pin("predictions", DAYS[0], DAYS[2]) == new
    assert lake.pin("predictions", version=1) == old == PinnedFiles.from_json(old.to_json())
    assert [pq.read_table(file.path)["probability"][0].as_py() for file in new.files] == [0.1, 0.5]
    assert lake.read("predictions", 1).count() == 4
    info = lake.describe()[-1]
    assert (info.name, info.rows, info.files, info.since, info.until) == (
        "predictions", 4, 4, DAYS[0], DAYS[3] + dt.timedelta(days=1),
    )  # fmt: skip


def test_deletion_vectors_switched_on_upstream_are_refused(lake, spark):
    lake.append("predictions", predictions(spark, DAYS[:1] * 3))
    path = lake.path("predictions")
    spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.enableDeletionVectors = true)")
    with pytest.raises(InputError, match="deletionVectors"):
        lake.pin("predictions")


def test_an_unknown_table_is_named(lake):
    with pytest.raises(ConfigError, match="'samples'"):
        lake.exists("samples")


def test_rows_of_the_driver_come_back_as_they_are_and_need_no_python_worker(spark):
    schema = "day date, at timestamp, n bigint, x double, counts map<string, bigint>, parts array<double>, name string"
    at = dt.datetime(2024, 1, 1, 12, 30, 0, 250, tzinfo=dt.UTC)
    first = {
        "day": DAYS[0],
        "at": at,
        "n": 2**53 + 1,
        "x": 0.1,
        "counts": {"a": 1, "b": 2},
        "parts": [0.5, 1.5],
        "name": "ü",
    }
    frame = local_frame(spark, [first, {"name": "alone"}], schema)
    assert "LocalRelation" in frame._jdf.queryExecution().optimizedPlan().toString()
    found = [row.asDict() for row in frame.collect()]
    assert found[0] == first | {"at": at.astimezone().replace(tzinfo=None)}
    assert found[1] == dict.fromkeys(first) | {"name": "alone"}
    pairs = local_frame(spark, [("a", 1), ("b", None)], "name string, n int")
    assert [tuple(row) for row in pairs.collect()] == [("a", 1), ("b", None)]
    assert local_frame(spark, [], "name string, n int").count() == 0
    with pytest.raises(pa.ArrowException):
        local_frame(spark, [("a", "one")], "name string, n int")
