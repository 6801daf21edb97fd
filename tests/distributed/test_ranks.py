"""Real ranks: Horovod on Spark, in processes of their own, and what happens when one of them or the driver dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from ecdctr.distributed.launch import RankSession
from ecdctr.exceptions import ConfigError, InputError, TemporaryError, TrainingError

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(240)]

FAULTS = Path(__file__).parent / "faults"
ROOT = Path(__file__).parents[2]
STALL = 8
# What the machine's other work may add to a time-out before a test calls it late.
SLACK = 30


@pytest.fixture
def open_session(spark, tmp_path):
    """Opens sessions whose processes are all gone after the test."""
    sessions = []

    def opened(local_exchange="shared_memory") -> RankSession:
        path = os.pathsep.join([str(FAULTS), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        session = RankSession(
            spark, 2, tmp_path / "mailbox", threads_per_rank=1, stall_seconds=STALL, local_exchange=local_exchange,
            env={"PYTHONPATH": path},
        )  # fmt: skip
        session.start()
        sessions.append(session)
        return session

    yield opened
    for session in sessions:
        session.close()


def after(seconds: float, action) -> None:
    threading.Timer(seconds, action).start()


def gone(pids: list[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        time.sleep(0.1)
    return False


def pids_of(session: RankSession) -> list[int]:
    return [result["pid"] for result in session.call("probe", {})]


def test_warm_ranks_answer_again_and_stop_when_the_driver_is_asked_to(open_session, spark):
    session = open_session()
    assert session.startup.keys() >= {"spark_tasks", "process_start", "torch_import", "rendezvous", "first_all_reduce"}
    first, second = session.call("probe", {"repeat": 5}), session.call("probe", {"repeat": 5})
    assert [result["sum"] for result in first] == [3.0, 3.0]
    assert [result["pid"] for result in first] == [result["pid"] for result in second]
    assert len({os.getpid(), *(result["pid"] for result in first)}) == 3
    assert {result["threads"] for result in first} == {1}
    assert spark.range(100).count() == 100
    seen = []
    handler = signal.getsignal(signal.SIGTERM)
    after(1.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TemporaryError, match="as asked") as caught:
        session.call("probe", {"repeat": 100_000, "pause": 0.01}, on_progress=seen.append)
    assert caught.value.exit_code == 75
    assert seen[-1]["steps"] == 100_000
    assert signal.getsignal(signal.SIGTERM) is handler
    assert gone([result["pid"] for result in first], SLACK)
    with pytest.raises(TrainingError, match="have ended"):
        session.call("probe", {})


@pytest.mark.parametrize(
    ("kind", "raised", "match"),
    [("ValueError", TrainingError, "rank 1: ValueError: 7 apples"), ("InputError", InputError, "^7 apples")],
)
def test_what_one_rank_raises_reaches_the_driver_while_the_other_waits_for_it(open_session, kind, raised, match):
    session = open_session()
    pids = pids_of(session)
    since = time.monotonic()
    with pytest.raises(raised, match=match) as caught:
        session.call("fault", {"rank": 1, "kind": kind, "message": "7 apples"})
    assert time.monotonic() - since < SLACK
    assert "fault_tasks.py" in caught.value.__notes__[0]
    assert gone(pids, SLACK)
    assert "7 apples" in session.mailbox.log_of(1).read_text()


@pytest.mark.parametrize("local_exchange", ["shared_memory", "horovod"])
@pytest.mark.parametrize(("number", "allowed"), [(signal.SIGKILL, 5), (signal.SIGSTOP, STALL)])
def test_a_killed_or_frozen_rank_ends_the_session_within_the_stall_time(open_session, number, allowed, local_exchange):
    session = open_session(local_exchange)
    pids = pids_of(session)
    after(1.0, lambda: os.kill(pids[1], number))
    since = time.monotonic()
    with pytest.raises(TrainingError, match="rank 1"):
        session.call("probe", {"repeat": 100_000, "pause": 0.01})
    assert time.monotonic() - since < allowed + SLACK
    assert gone(pids, SLACK)


DRIVER = """
import sys
from pathlib import Path
from pyspark.sql import SparkSession
from ecdctr.distributed.launch import RankSession
spark = SparkSession.builder.master("local[4]").config("spark.ui.enabled", "false").config(
    "spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
with RankSession(spark, 2, Path(sys.argv[1]), threads_per_rank=1, stall_seconds=8) as session:
    print(*[result["pid"] for result in session.call("probe", {})], flush=True)
    session.call("probe", {"repeat": 100000, "pause": 0.01})
"""


def test_ranks_of_a_killed_driver_end_by_themselves(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "mailbox")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True,
    )  # fmt: skip
    try:
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        children = [child.pid for child in psutil.Process(driver.pid).children(recursive=True)]
        assert set(pids) <= set(children)
    finally:
        driver.kill()
        driver.communicate(timeout=20)
    assert gone(pids, STALL + SLACK)
    assert gone(children, SLACK)


def test_a_master_without_a_free_slot_is_refused(spark, tmp_path):
    with pytest.raises(ConfigError, match=r"expected at least 5\nHINT: set spark.master to local\[5\]"):
        RankSession(spark, 4, tmp_path, threads_per_rank=1).start()


def test_a_used_mailbox_is_refused(spark, tmp_path):
    (tmp_path / "close").touch()
    with pytest.raises(InputError, match="not empty"):
        RankSession(spark, 2, tmp_path, threads_per_rank=1).start()
    assert (tmp_path / "close").exists()
