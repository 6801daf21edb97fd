"""Faults that tables must survive: two writers at once, a lost answer, a retried task, clean-up under a reader."""

import datetime as dt
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from pyspark.errors import PySparkException

from ecdctr.config.operations import MaintenanceConfig
from ecdctr.etl import prepare as preparation
from ecdctr.etl.prepare import prepare
from ecdctr.exceptions import AlreadyDone
from ecdctr.lake.frames import local_frame
from ecdctr.lake.leases import Lease
from ecdctr.lake.ledger import Ledger
from ecdctr.lake.maintenance import compact
from ecdctr.lake.tables import Lake
from ecdctr.pipelines.maintain import vacuum

pytestmark = pytest.mark.spark

START = dt.date(2024, 1, 1)
DAY = dt.timedelta(days=1)


def ids(lake, table):
    return sorted(row["event_id"] for row in lake.read(table).select("event_id").collect())


def test_of_two_preparations_at_once_each_day_is_written_once(spark, whole, make_config, write_logs):
    write_logs()
    config, results, errors = make_config(), [], []

    def run(until):
        try:
            results.append(prepare(spark, config, until))
        except BaseException as error:
            errors.append(error)

    jobs = [
        threading.Thread(target=run, args=(until,)) for until in (START + 2 * DAY, START + 4 * DAY, START + 4 * DAY)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(280)
    assert errors == []
    assert sum(summary.days for summary in results) == 4
    assert sorted(summary.days for summary in results)[0] == 0
    lake = Lake(spark, config.warehouse_dir)
    for table in ("natural_samples", "ad_samples"):
        assert ids(lake, table) == ids(whole.lake, table)


@pytest.mark.parametrize("table", ["natural_impressions", "ad_samples"])
def test_a_commit_whose_answer_was_lost_is_not_repeated(spark, whole, make_config, write_logs, monkeypatch, table):
    write_logs()
    config = make_config()
    real = Lake.replace_days

    def lost(self, name, *args, **options):
        version = real(self, name, *args, **options)
        if name == table:
            raise PySparkException("the connection broke")
        return version

    monkeypatch.setattr(preparation.Lake, "replace_days", lost)
    with pytest.raises(PySparkException):
        prepare(spark, config, None)
    monkeypatch.undo()
    lake = Lake(spark, config.warehouse_dir)
    version = lake.version(table)
    prepare(spark, config, None)
    assert lake.version(table) == version
    assert ids(lake, "ad_samples") == ids(whole.lake, "ad_samples")


def predictions(spark, names, day=START):
    rows = [(name, day, "u", 1, 0.5, "v", "ecdctr", 1) for name in names]
    kinds = "event_id string, event_date date, user_id string, label int, probability double, model_version string, arm string, seed bigint"
    return local_frame(spark, rows, kinds).coalesce(1)


def test_clean_up_leaves_what_a_running_job_reads(spark, tmp_path):
    lake = Lake(spark, tmp_path)
    for names in (["a", "b"], ["c"], ["d", "e"]):
        lake.replace_days("predictions", predictions(spark, names), START, START + DAY)
    old = lake.pin("predictions", version=1)
    lease = Lease(tmp_path)
    lease.pin("predictions", 1)
    workspace = SimpleNamespace(
        root=tmp_path, lake=lake, ledger=Ledger(lake), config=SimpleNamespace(maintenance=MaintenanceConfig())
    )
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=30)
    with pytest.raises(AlreadyDone):
        vacuum(workspace, remove=True)
    said = vacuum(workspace, remove=False, now=later)
    assert [(t["table"], t["files"], t["pinned_versions"]) for t in said["tables"]] == [("predictions", 1, [1])]
    gone = lake.pin("predictions", version=2).files[0].path
    assert os.path.exists(gone)
    vacuum(workspace, remove=True, now=later)
    assert not os.path.exists(gone)
    assert pq.read_table(old.files[0].path)["event_id"].to_pylist() == ["a", "b"]
    assert [row["event_id"] for row in lake.read("predictions", 1).collect()] == ["a", "b"]
    assert ids(lake, "predictions") == ["d", "e"]
    lease.release()
    vacuum(workspace, remove=True, now=later)
    assert not os.path.exists(old.files[0].path)
    assert ids(lake, "predictions") == ["d", "e"]


def test_compaction_keeps_every_row_and_the_versions_before_it(spark, tmp_path):
    lake = Lake(spark, tmp_path)
    names = [f"e{place}" for place in range(9)]
    for name in names:
        lake.append("predictions", predictions(spark, [name]))
    before = lake.version("predictions")
    assert compact(lake, "predictions") == 8
    assert ids(lake, "predictions") == names
    assert lake.pin("predictions").rows == 9
    assert lake.read("predictions", before).count() == 9
    assert compact(lake, "predictions") == 0


RETRY = """
import datetime as dt, sys
from pathlib import Path
from pyspark import TaskContext
from ecdctr.config.schema import SparkConfig
from ecdctr.lake.session import spark_session
from ecdctr.lake.tables import Lake

spark = spark_session(SparkConfig(master="local[2,3]", driver_memory="512m", shuffle_partitions=2), "retry")
day = dt.date(2024, 1, 1)
kinds = "event_id string, event_date date, user_id string, label int, probability double, model_version string, arm string, seed bigint"
rows = spark.createDataFrame([(f"e{n}", day, "u", 1, 0.5, "v", "a", 1) for n in range(40)], kinds).repartition(2)

def flaky(batches):
    yield from batches
    if TaskContext.get().attemptNumber() == 0:
        raise RuntimeError("after all rows were given")

lake = Lake(spark, Path(sys.argv[1]))
lake.replace_days("predictions", rows.mapInArrow(flaky, kinds), day, day + dt.timedelta(days=1))
found = [row["event_id"] for row in lake.read("predictions").collect()]
assert sorted(found) == sorted(f"e{n}" for n in range(40)), found
assert lake.pin("predictions").rows == 40
files = sorted((Path(sys.argv[1]) / "predictions").rglob("*.parquet"))
print("files", len(files), "active", len(lake.pin("predictions").files))
"""


def test_a_task_that_is_tried_again_writes_its_rows_once(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RETRY, str(tmp_path)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
