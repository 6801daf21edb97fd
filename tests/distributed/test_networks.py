"""Ranks in network namespaces, each with an address of its own: the same training; and a network that is cut (F41)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.namespaces import NAMES, PREFIX, Network, refusal, remove_leftovers
from benchmarks.scale import DIM, FIELDS, STATE, level, write_log
from benchmarks.scale_model import Workload, bytes_per_step
from ecdctr.distributed.launch import RankSession
from ecdctr.exceptions import TrainingError

pytestmark = [pytest.mark.distributed, pytest.mark.campaign, pytest.mark.timeout(400)]

STALL = 8
SLACK = 30
WORK = Workload(256, FIELDS, DIM, STATE, 0, 20_000)


@pytest.fixture
def network():
    """Two machines; the test itself runs where the driver would."""
    why = refusal()
    if why is not None:
        pytest.skip(why)
    with Network(2) as network, network.inside():
        yield network


def opened(mailbox, machines):
    # Ranks of two namespaces have one kernel, so they would find that they can share memory.
    return RankSession(
        None, 2, mailbox, threads_per_rank=1, stall_seconds=STALL, machines=machines, local_exchange="horovod"
    )


def task(root, version, exchange, files, checkpoint_steps=10**9):
    found = level(root, files, WORK, 2, exchange, "0") | {
        "version": version,
        "checkpoints": str(root / "kept" / version),
    }
    found["training"]["checkpoint_steps"] = checkpoint_steps
    return found


@pytest.mark.parametrize("exchange", ["replicated", "row_wise"])
def test_ranks_of_two_addresses_train_over_a_limited_link_what_ranks_of_one_machine_train(tmp_path, network, exchange):
    steps = 12
    files = write_log(tmp_path / "log", steps * WORK.batch * 2, WORK.ids)
    digests = []
    for name, machines in (("here", None), ("apart", network.machines())):
        network.limit(200 if machines else None)
        sent = [network.sent(rank) for rank in range(2)]
        with opened(tmp_path / name, machines) as session:
            records = session.call("train_level", task(tmp_path, name, exchange, files))
        digests.append(records[0]["digest"])
        grown = min(network.sent(rank) - was for rank, was in enumerate(sent))
        least = steps * sum(bytes_per_step(WORK, 2, exchange).values())
        assert grown > least if machines else grown < 10_000
    assert digests[0] == digests[1]


def test_a_network_that_is_cut_ends_the_training_in_time_and_it_resumes_when_mended(tmp_path, network):
    files = write_log(tmp_path / "log", 400 * WORK.batch * 2, WORK.ids)
    whole, broken = (task(tmp_path, name, "row_wise", files, checkpoint_steps=25) for name in ("whole", "broken"))
    cut_at: list[float] = []

    def cut_when_under_way(progress):
        if progress["step"] >= 50 and not cut_at:
            network.cut(1)
            cut_at.append(time.monotonic())

    with opened(tmp_path / "first", network.machines()) as session:
        pids = [found["pid"] for found in session.call("probe", {})]
        with pytest.raises(TrainingError, match="cannot be reached") as caught:
            session.call("train_level", broken, on_progress=cut_when_under_way)
    took = time.monotonic() - cut_at[0]
    assert took < STALL + SLACK, f"{took:.0f} s, {caught.value}"
    assert "with the other ranks failed" in caught.value.message
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not (tmp_path / "store" / "broken").exists()
    assert list((tmp_path / "kept" / "broken").iterdir())
    network.mend(1)
    with opened(tmp_path / "second", network.machines()) as session:
        first_seen: list[int] = []
        resumed = session.call("train_level", broken, on_progress=lambda progress: first_seen.append(progress["step"]))
        unbroken = session.call("train_level", whole)
    assert first_seen[0] >= 50 - 25
    assert resumed[0]["digest"] == unbroken[0]["digest"]
    assert resumed[0]["steps"] == 400


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_namespaces_of_a_benchmark_that_is_stopped_or_killed_are_removed(network, tmp_path, number):
    command = [
        sys.executable,
        "-m",
        "benchmarks.links",
        "--ranks",
        "2",
        "--steps",
        "2",
        "--runs",
        str(tmp_path / "runs"),
    ]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL) as benchmark:
        pattern = f"{PREFIX}-{benchmark.pid}-*"
        # Those that only try whether the machine allows it come and go first.
        deadline = time.monotonic() + 60
        while not any(len(list(NAMES.glob(pattern))) == 3 and _ranks(place) for place in NAMES.glob(pattern)):
            assert time.monotonic() < deadline
            assert benchmark.poll() is None
            time.sleep(0.05)
        benchmark.send_signal(number)
        assert benchmark.wait(SLACK) != 0
    if number == signal.SIGKILL:
        assert len(remove_leftovers()) == 3
    assert not list(NAMES.glob(pattern))
    assert not (tmp_path / "runs").exists()
    assert os.listdir(NAMES)  # This test's own are still there.


def _ranks(namespace: Path) -> list[str]:
    listed = subprocess.run(["ip", "netns", "pids", namespace.name], capture_output=True, text=True, check=False)
    return listed.stdout.split()
