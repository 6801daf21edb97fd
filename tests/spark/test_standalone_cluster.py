"""Jobs on a standalone cluster whose workers have addresses of their own where the machine allows it: tables, and a cut network (F41)."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from benchmarks.namespaces import Network, refusal
from ecdctr.etl.prepare import prepare
from ecdctr.lake.jars import delta_jars
from ecdctr.lake.tables import Lake
from tests.spark.standalone_cluster import BIN, cluster

pytestmark = [pytest.mark.spark, pytest.mark.campaign, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
TABLES = ["natural_impressions", "ad_impressions", "vocabulary", "natural_samples", "ad_samples"]
DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
STALL, SLACK = 10, 60


@pytest.fixture
def network():
    """Two machines for the workers; None where this one gives none, with the reason printed."""
    why = refusal()
    if why is not None:
        print(f"both workers on the loopback interface: {why}")
        yield None
    else:
        with Network(2) as network:
            yield network


def test_two_workers_write_the_tables_of_local_mode(spark, network, make_config, write_logs, tmp_path):
    write_logs(days=4)
    config = make_config()
    prepare(spark, config, None)
    there = config.model_copy(update={"warehouse": tmp_path / "cluster"})
    written = tmp_path / "cluster.yml"
    written.write_text(yaml.safe_dump(there.model_dump(mode="json", exclude_defaults=True)))
    confs = DELTA | {"spark.executor.memory": "700m", "spark.ui.enabled": "false"}
    with cluster(tmp_path, network) as running:
        before = [network.sent(at) for at in range(2)] if network else []
        done = running.submit(
            "--jars", ",".join(map(str, delta_jars())),
            *(part for key, value in confs.items() for part in ("--conf", f"{key}={value}")),
            str(ROOT / "jobs" / "prepare.py"), "--config", str(written), "--json",
            cwd=ROOT, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        told = running.log.read_text()
        for at, was in enumerate(before):
            assert re.search(rf"Launching executor .* on worker .*-{re.escape(network.address(at))}-", told)
            assert network.sent(at) - was > 20_000
    here, apart = Lake(spark, config.warehouse_dir), Lake(spark, there.warehouse_dir)
    for table in TABLES:
        rows = [lake.read(table) for lake in (here, apart)]
        assert rows[0].count() > 0, table
        assert not rows[0].exceptAll(rows[1]).count(), table
        assert not rows[1].exceptAll(rows[0]).count(), table


DRIVER = """
import json, sys, time
from pathlib import Path
from pyspark.sql import SparkSession
from ecdctr.distributed.launch import RankSession
from ecdctr.exceptions import TrainingError
folder, stall = Path(sys.argv[1]), int(sys.argv[2])
spark = SparkSession.builder.getOrCreate()
def under_way(progress):
    (folder / "step").write_text(str(progress["step"]))
try:
    # Two namespaces have one kernel, whose memory their ranks could share.
    with RankSession(
        spark, 2, folder / "mailbox", threads_per_rank=1, stall_seconds=stall, local_exchange="horovod"
    ) as session:
        ranks = len({found["pid"] for found in session.call("probe", {})})
        session.call("probe", {"repeat": 100_000, "pause": 0.01}, on_progress=under_way)
except TrainingError as error:
    print(json.dumps({"message": str(error), "at": time.time(), "ranks": ranks}), flush=True)
"""


def test_a_worker_whose_network_is_cut_ends_the_training_with_a_message(network, tmp_path):
    if network is None:
        pytest.skip(str(refusal()))
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    confs = {
        "spark.task.maxFailures": "1", "spark.executor.memory": "500m",
        "spark.executor.cores": "1", "spark.ui.enabled": "false",
    }  # fmt: skip
    with cluster(tmp_path, network) as running:
        command = [
            *running.driver.command, str(BIN / "spark-submit"), "--master", running.url,
            *(part for key, value in confs.items() for part in ("--conf", f"{key}={value}")),
            str(script), str(tmp_path), str(STALL),
        ]  # fmt: skip
        with (
            (tmp_path / "driver.log").open("w") as log,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=running.driver.surroundings()
            ) as driver,
        ):
            try:
                deadline = time.monotonic() + 150
                while not (tmp_path / "step").exists():
                    assert time.monotonic() < deadline, (tmp_path / "driver.log").read_text()[-3000:]
                    assert driver.poll() is None, (tmp_path / "driver.log").read_text()[-3000:]
                    time.sleep(0.2)
                since = time.time()
                network.cut(1)
                # Spark and Horovod write lines of their own there.
                said = json.loads(next(line for line in driver.stdout if line.startswith("{")))
            finally:
                driver.kill()
    assert said["ranks"] == 2
    assert said["at"] - since < STALL + SLACK
    assert "with the other ranks failed" in said["message"] or "no sign of life" in said["message"]
