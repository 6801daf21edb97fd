"""`spark-submit jobs/prepare.py` on a standalone cluster: a master and two workers, each a JVM of its own."""

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyspark
import pytest
import yaml

from ecdctr.etl.prepare import prepare
from ecdctr.lake.jars import delta_jars
from ecdctr.lake.tables import Lake

pytestmark = [pytest.mark.spark, pytest.mark.campaign, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
BIN = Path(pyspark.__file__).parent / "bin"
TABLES = ["natural_impressions", "ad_impressions", "vocabulary", "natural_samples", "ad_samples"]
DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def daemon(log: Path, *arguments: str):
    with (
        log.open("w") as out,
        subprocess.Popen(
            [str(BIN / "spark-class"), *arguments], stdout=out, stderr=subprocess.STDOUT, env=surroundings()
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


def surroundings() -> dict[str, str]:
    return os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + 90
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


@pytest.fixture
def master(tmp_path):
    """The URL of a cluster with two workers of one core each."""
    port = free_port()
    url, log = f"spark://127.0.0.1:{port}", tmp_path / "master.log"
    with ExitStack() as stack:
        # Standalone daemons look for a free port upwards where the page's is taken.
        begin = [
            "org.apache.spark.deploy.master.Master",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--webui-port",
            "0",
        ]
        stack.enter_context(daemon(log, *begin))
        wait_for(log, "I have been elected leader")
        for name in ("one", "two"):
            begin = ["org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1", "--webui-port", "0"]
            begin += ["-c", "1", "-m", "1g", "-d", str(tmp_path / name), url]
            stack.enter_context(daemon(tmp_path / f"{name}.log", *begin))
        for name in ("one", "two"):
            wait_for(tmp_path / f"{name}.log", "Successfully registered with master")
        yield url


def test_two_workers_write_the_tables_of_local_mode(spark, master, make_config, write_logs, tmp_path):
    write_logs(days=4)
    config = make_config()
    prepare(spark, config, None)
    there = config.model_copy(update={"warehouse": tmp_path / "cluster"})
    written = tmp_path / "cluster.yml"
    written.write_text(yaml.safe_dump(there.model_dump(mode="json", exclude_defaults=True)))
    confs = DELTA | {"spark.executor.memory": "700m", "spark.ui.enabled": "false"}
    done = subprocess.run(
        [
            str(BIN / "spark-submit"), "--master", master, "--jars", ",".join(map(str, delta_jars())),
            *(part for key, value in confs.items() for part in ("--conf", f"{key}={value}")),
            str(ROOT / "jobs" / "prepare.py"), "--config", str(written), "--json",
        ],
        capture_output=True, text=True, timeout=600, cwd=ROOT, env=surroundings(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    here, cluster = Lake(spark, config.warehouse_dir), Lake(spark, there.warehouse_dir)
    for table in TABLES:
        rows = [lake.read(table) for lake in (here, cluster)]
        assert rows[0].count() > 0, table
        assert not rows[0].exceptAll(rows[1]).count(), table
        assert not rows[1].exceptAll(rows[0]).count(), table
