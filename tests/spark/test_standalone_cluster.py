"""`spark-submit jobs/prepare.py` on a standalone cluster whose workers have addresses of their own where the machine allows it."""

import re
from pathlib import Path

import pytest
import yaml

from benchmarks.namespaces import Network, refusal
from ecdctr.etl.prepare import prepare
from ecdctr.lake.jars import delta_jars
from ecdctr.lake.tables import Lake
from tests.spark.standalone_cluster import cluster

pytestmark = [pytest.mark.spark, pytest.mark.campaign, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
TABLES = ["natural_impressions", "ad_impressions", "vocabulary", "natural_samples", "ad_samples"]
DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}


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
