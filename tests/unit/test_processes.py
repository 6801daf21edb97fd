"""Which process is meant, and whether it lives: against psutil, and against processes that end."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ecdctr import processes
from ecdctr.distributed.lives import Lives
from ecdctr.distributed.mailbox import Mailbox, life_name
from tests.unit.wall_clock import set_clock

pytestmark = pytest.mark.unit

CHILD = "import json, sys; from ecdctr import processes; print(json.dumps(processes.identity()), flush=True); sys.stdin.read()"


@pytest.fixture
def child() -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """Another process, and what it says who it is."""
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield process, json.loads(process.stdout.readline())
    process.kill()
    process.communicate()


def test_a_process_is_known_by_when_it_started_after_the_machine(child):
    process, who = child
    since = psutil.Process(process.pid).create_time() - psutil.boot_time()
    assert who["pid"] == process.pid
    assert who["started"] / os.sysconf("SC_CLK_TCK") == pytest.approx(since, abs=0.011)
    assert who["machine"] == processes.machine() == processes.identity()["machine"]
    assert processes.has_ended(who) is False


def test_a_killed_process_has_ended_before_and_after_its_parent_takes_note(child):
    process, who = child
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert processes.has_ended(who) is True
    process.wait()
    assert processes.has_ended(who) is True


def test_a_number_that_was_given_again_is_another_process():
    who = processes.identity()
    assert processes.has_ended(who | {"started": who["started"] - 1}) is True


@pytest.mark.parametrize("name", [b") Z 1 (", b"a b", b"(((", b")))"])
def test_names_that_look_like_the_rest_of_a_line(name):
    libc = ctypes.CDLL(None)
    before, own = processes.identity(), ctypes.create_string_buffer(16)
    libc.prctl(16, own)
    try:
        libc.prctl(15, name)
        assert name in Path(f"/proc/{os.getpid()}/stat").read_bytes()
        assert processes.identity() == before
        assert processes.has_ended(before) is False
    finally:
        libc.prctl(15, own)


@pytest.mark.parametrize("elsewhere", [True, False], ids=["another start", "another namespace"])
def test_of_another_machine_or_container_nothing_is_known(elsewhere):
    who = processes.identity()
    boot, namespace = who["machine"].split()
    other = f"{boot[::-1]} {namespace}" if elsewhere else f"{boot} 1"
    assert processes.has_ended(who | {"machine": other}) is None
    assert processes.has_ended(who | {"machine": other, "started": 1}) is None


@pytest.mark.parametrize("other", [None, 1, "x", {}, {"machine": None, "pid": 1}, {"pid": 1, "created": 2.0}])
def test_of_other_forms_nothing_is_known(other):
    assert processes.has_ended(other) is None


def test_without_proc_nothing_is_known(monkeypatch, tmp_path):
    who = processes.identity()
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert processes.machine() is None
    assert processes.has_ended(who) is None
    assert processes.has_ended(processes.identity()) is None


def test_a_process_that_proc_hides_may_live(monkeypatch):
    def hide(path):
        raise FileNotFoundError(path)

    who = processes.identity()
    monkeypatch.setattr(Path, "read_bytes", hide)
    monkeypatch.setattr(processes, "machine", lambda: who["machine"])
    assert processes.has_ended(who) is None
    assert processes.has_ended(who | {"pid": 2**22 + 1}) is True


def test_ranks_live_though_the_clock_is_set(tmp_path, monkeypatch, child):
    process, who = child
    mailbox = Mailbox(tmp_path)
    mailbox.write(life_name(0), {"beat": 1, "progress": {}, "process": who})
    mailbox.write(life_name(1), {"beat": 1, "progress": {}, "process": who | {"machine": "elsewhere"}})
    mailbox.write(life_name(2), {"beat": 1, "progress": {}, "pid": process.pid, "host": "here", "created": 1.0})
    lives = Lives(mailbox, 4)
    lives.look()
    set_clock(monkeypatch, -3600)
    assert [lives.gone(rank) for rank in range(4)] == [False] * 4
    lives.kill()
    process.wait(timeout=30)
    assert [lives.gone(rank) for rank in range(4)] == [True, False, False, False]
    lives.kill()


def test_only_ranks_that_are_seen_are_killed(tmp_path, child):
    process, who = child
    mailbox = Mailbox(tmp_path)
    mailbox.write(life_name(0), {"beat": 1, "progress": {}, "process": who | {"machine": "elsewhere"}})
    mailbox.write(life_name(1), {"beat": 1, "progress": {}, "process": who | {"started": who["started"] + 1}})
    lives = Lives(mailbox, 2)
    lives.look()
    lives.kill()
    assert process.poll() is None
