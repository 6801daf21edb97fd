"""Ranks as processes of this machine, without Spark: the same session, and nothing left behind."""

import os
import time

import psutil
import pytest

from ecdctr.distributed import launch
from ecdctr.distributed.launch import RankSession
from ecdctr.distributed.mailbox import result_name
from ecdctr.exceptions import TrainingError

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(240)]


@pytest.mark.parametrize(
    ("exchange", "carried_by"), [("shared_memory", "SharedMemoryCollective"), ("horovod", "HorovodCollective")]
)
def test_ranks_without_spark_answer_and_end(tmp_path, exchange, carried_by):
    with RankSession(None, 2, tmp_path / "mailbox", threads_per_rank=1, local_exchange=exchange) as session:
        found = session.call("probe", {"repeat": 3})
        assert {result["carried_by"] for result in found} == {carried_by}
        assert [result["sum"] for result in found] == [3.0, 3.0]
        assert len({os.getpid(), *(result["pid"] for result in found)}) == 3
        assert {result["threads"] for result in found} == {1}
    assert not any(psutil.pid_exists(result["pid"]) for result in found)
    assert not (tmp_path / "mailbox").exists()


@pytest.fixture
def two_cores():
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("needs two cores")
    two = sorted(before)[:2]
    os.sched_setaffinity(0, two)
    yield two
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize("bind_to_cores", [True, False])
def test_ranks_that_fill_the_machine_keep_to_cores_of_their_own(tmp_path, two_cores, bind_to_cores):
    with RankSession(None, 2, tmp_path / "mailbox", threads_per_rank=1, bind_to_cores=bind_to_cores) as session:
        ranks = [psutil.Process(found["pid"]) for found in session.call("probe", {})]
        kept_to = [{tuple(psutil.Process(thread.id).cpu_affinity()) for thread in rank.threads()} for rank in ranks]
    whole = {tuple(two_cores)}
    assert kept_to == ([{(core,)} for core in two_cores] if bind_to_cores else [whole, whole])


def test_a_rank_that_is_killed_is_named(tmp_path):
    with RankSession(None, 2, tmp_path / "mailbox", threads_per_rank=1, stall_seconds=8) as session:
        pids = [result["pid"] for result in session.call("probe", {})]
        psutil.Process(pids[1]).kill()
        with pytest.raises(TrainingError, match="rank 1"):
            session.call("probe", {"repeat": 100_000, "pause": 0.01})
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_errors_that_come_while_the_driver_looks_after_the_ranks_are_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "LOOK_SECONDS", 0)
    monkeypatch.setattr(launch, "POLL_SECONDS", 0)
    with RankSession(None, 2, tmp_path / "mailbox", threads_per_rank=1, stall_seconds=8) as session:
        look = session._look

        def look_when_both_have_answered(*told):
            while any(session.mailbox.read(result_name(1, rank)) is None for rank in range(2)):
                time.sleep(0.01)
            look(*told)

        monkeypatch.setattr(session, "_look", look_when_both_have_answered)
        with pytest.raises(TrainingError, match="rank 0: ValueError"):
            session.call("probe", {"repeat": "often"})
        with pytest.raises(TrainingError, match="ranks have ended"):
            session.call("probe", {})
