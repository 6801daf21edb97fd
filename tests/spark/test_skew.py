"""Half of all rows by one user, a hot item, thousands of columns; and an executor that is lost in a shuffle."""

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecdctr.etl.prepare import prepare
from ecdctr.lake.tables import Lake
from tests.spark.standalone_cluster import cluster

pytestmark = pytest.mark.spark

ROOT = Path(__file__).parents[2]
START = dt.date(2024, 1, 1)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_one_user_with_half_of_all_rows_a_hot_item_and_five_thousand_columns(spark, make_config, tmp_path):
    assert spark.conf.get("spark.sql.adaptive.enabled") == "true"
    rng, rows, days = np.random.default_rng(1), 60_000, 3
    (tmp_path / "raw").mkdir()
    users = np.where(rng.random(rows) < 0.5, 7, rng.integers(100, 5000, rows))
    moments = pd.Timestamp(START) + pd.to_timedelta(rng.integers(0, days * 86_400, rows), unit="s")
    table = {
        "event_id": pa.array([f"e{place}" for place in range(rows)]),
        "user_id": pa.array(users),
        "item": pa.array(np.where(rng.random(rows) < 0.6, 1, rng.integers(2, 3000, rows))),
        "ts": pa.array(moments, pa.timestamp("us")),
        "click": pa.array(rng.integers(0, 2, rows)),
    }
    nothing = pa.nulls(rows, pa.float32())
    wide = table | {f"history_{place}": nothing for place in range(5000)}
    pq.write_table(pa.table(wide), tmp_path / "raw" / "natural.parquet", row_group_size=rows // 2)
    ads = pa.table(table).slice(0, 600)
    pq.write_table(
        ads.set_column(0, "event_id", pa.array([f"a{n}" for n in range(600)])), tmp_path / "raw" / "ads.parquet"
    )
    features = [
        {"name": "clicked", "kind": "sequence", "length": 20},
        {"name": "of_user", "kind": "rate", "of": ["user_id"]},
        {"name": "hot", "kind": "cross", "sources": ["user_id", "item"]},
        {"name": "age", "kind": "age", "boundaries": [1, 2]},
    ]
    config = make_config(features=features)
    summary = prepare(spark, config, None)
    assert summary.rows == {"natural": rows, "ad": 600}
    lake = Lake(spark, config.warehouse_dir)
    last = lake.read("natural_samples").where("user = '7'").orderBy("event_date", ascending=False).first()
    assert all(last["clicked"])
    sizes = [file.rows for file in lake.pin("natural_samples").files]
    assert max(sizes) - min(sizes) < rows // 20


LOST = """
import datetime as dt, os, signal, sys
from pathlib import Path
from ecdctr.config.schema import SparkConfig
from ecdctr.lake.session import spark_session
from ecdctr.lake.tables import Lake

root = Path(sys.argv[1])
settings = SparkConfig(master="local-cluster[2,1,800]", driver_memory="512m", shuffle_partitions=2,
                       options={"spark.executor.memory": "640m", "spark.executorEnv.PYTHONPATH": os.environ["PYTHONPATH"]})
spark = spark_session(settings, "lost")
day, marker = dt.date(2024, 1, 1), root / "killed"
kinds = "event_id string, event_date date, user_id string, label int, probability double, model_version string, arm string, seed bigint"

def killed(batches):
    for batch in batches:
        yield batch
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        daemon = os.getppid()
        executor = int(open(f"/proc/{daemon}/stat").read().rsplit(")", 1)[1].split()[1])
        os.kill(executor, signal.SIGKILL)

rows = spark.range(0, 4000, 1, 4).selectExpr(
    "concat('e', id) AS event_id", f"DATE'{day}' AS event_date", "'u' AS user_id", "1 AS label", "0.5D AS probability",
    "'v' AS model_version", "'a' AS arm", "1L AS seed")
lake = Lake(spark, root / "lake")
lake.create("predictions")
tries = 0
while True:
    tries += 1
    try:
        frame = rows.mapInArrow(killed, kinds).repartition(2, "event_id")
        lake.replace_days("predictions", frame, day, day + dt.timedelta(days=1))
        break
    except Exception:
        assert lake.pin("predictions").rows == 0 and tries < 3
found = sorted(row["event_id"] for row in lake.read("predictions").collect())
assert marker.exists() and found == sorted(f"e{n}" for n in range(4000)), len(found)
assert lake.pin("predictions").rows == 4000
print("tries", tries)
"""


@pytest.mark.campaign
def test_an_executor_that_is_lost_in_a_shuffle_leaves_all_rows_or_none(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LOST, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )
    assert done.returncode == 0, done.stderr[-2000:]


SPECULATED = """
import datetime as dt, os, sys, time
from pathlib import Path
from pyspark import TaskContext
from ecdctr.config.schema import SparkConfig
from ecdctr.lake.session import spark_session
from ecdctr.lake.tables import Lake

root = Path(sys.argv[1])
settings = SparkConfig(master=sys.argv[2], driver_memory="512m", shuffle_partitions=2, options={
    "spark.executor.memory": "640m", "spark.executorEnv.PYTHONPATH": os.environ["PYTHONPATH"], "spark.driver.host": "127.0.0.1",
    "spark.speculation": "true", "spark.speculation.interval": "200ms", "spark.speculation.multiplier": "1.2",
    "spark.speculation.quantile": "0.5", "spark.speculation.minTaskRuntime": "100ms"})
spark = spark_session(settings, "speculated")
day = dt.date(2024, 1, 1)
kinds = "event_id string, event_date date, user_id string, label int, probability double, model_version string, arm string, seed bigint"

def slow(batches):
    attempt = TaskContext.get().attemptNumber()
    (root / f"part-{TaskContext.get().partitionId()}-attempt-{attempt}").touch()
    yield from batches
    # All rows are given; the first try of the last part dawdles before it ends, so that a second one overtakes it.
    if TaskContext.get().partitionId() == 3 and attempt == 0:
        time.sleep(20)

rows = spark.range(0, 4000, 1, 4).selectExpr(
    "concat('e', id) AS event_id", f"DATE'{day}' AS event_date", "'u' AS user_id", "1 AS label", "0.5D AS probability",
    "'v' AS model_version", "'a' AS arm", "1L AS seed")
lake = Lake(spark, root / "lake")
lake.create("predictions")
lake.replace_days("predictions", rows.mapInArrow(slow, kinds), day, day + dt.timedelta(days=1))
assert (root / "part-3-attempt-1").exists(), sorted(file.name for file in root.glob("part*"))
found = sorted(row["event_id"] for row in lake.read("predictions").collect())
assert found == sorted(f"e{n}" for n in range(4000)), len(found)
assert lake.pin("predictions").rows == 4000
"""


@pytest.mark.campaign
def test_a_task_that_is_done_twice_at_once_writes_its_rows_once(tmp_path):
    with cluster(tmp_path, None) as running:
        done = subprocess.run(
            [sys.executable, "-c", SPECULATED, str(tmp_path), running.url],
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )
    assert done.returncode == 0, done.stderr[-2000:]
