"""Four ranks: each holds a quarter of the tables; and tables that one rank's memory has no room for."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ecdctr.distributed.launch import RankSession
from ecdctr.training.task import Start
from tests.distributed.test_sharded_ranks import ROWS, level

pytestmark = [pytest.mark.distributed, pytest.mark.campaign, pytest.mark.timeout(280)]

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "lazy_adam", "ftrl"])
def test_bytes_of_tables_on_a_rank_fall_as_one_by_ranks(tmp_path, optimizer):
    rows = {name: 40 * count for name, count in ROWS.items()}
    held, losses = {}, {}
    for ranks in (1, 2, 4):
        with RankSession(None, ranks, tmp_path / f"mailbox-{ranks}", threads_per_rank=1) as session:
            task = level(
                tmp_path, f"v{ranks}", 0, Start(kind="scratch"), "row_wise", ranks=ranks, rows=rows,
                training={"sparse_optimizer": optimizer},
            )  # fmt: skip
            records = session.call("train_level", task.model_dump(mode="json"))
        held[ranks] = max(record["table_bytes"] for record in records)
        losses[ranks] = records[0]["train_log_loss"]
    for ranks in (2, 4):
        assert held[ranks] == pytest.approx(held[1] / ranks, rel=0.05)
        assert losses[ranks] == pytest.approx(losses[1], rel=1e-4)


LIMITED = """
import resource, sys
from pathlib import Path
from tests.distributed.test_sharded_scale import train
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
train(Path(sys.argv[1]), sys.argv[2])
"""
BIG = {"user_id": 40_000_000, "item_id": 52}


def train(root: Path, exchange: str) -> None:
    """Two ranks that inherit this process's limits."""
    with RankSession(None, 2, root / f"mailbox-{exchange}", threads_per_rank=1) as session:
        task = level(root, exchange, 0, Start(kind="scratch"), exchange, rows=BIG)
        print(max(record["table_bytes"] for record in session.call("train_level", task.model_dump(mode="json"))))


def test_a_table_larger_than_a_ranks_allowance_trains_sharded_where_replicated_has_no_memory(tmp_path):
    whole = sum(BIG.values()) * 4 * 6
    # Room for the vectors of a whole table, but not for a process beside them; for half of all, and the process.
    limit = whole * 5 // 6 + (48 << 20)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(exchange: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", LIMITED, str(tmp_path), exchange, str(limit)],
            capture_output=True, text=True, timeout=250, env=environment, cwd=ROOT,
        )  # fmt: skip

    assert resource.getrlimit(resource.RLIMIT_DATA)[1] == resource.RLIM_INFINITY
    sharded = run("row_wise")
    assert sharded.returncode == 0, sharded.stderr[-2000:]
    assert int(sharded.stdout) == pytest.approx(whole / 2, rel=0.01)
    replicated = run("replicated")
    assert replicated.returncode != 0
    assert "no memory for" in replicated.stderr
    assert "tables.exchange row_wise" in replicated.stderr
