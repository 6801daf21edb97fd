"""Faults F08–F10, F12: damaged, half-written and foreign artifacts are passed over, never used."""

import errno
import fcntl
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ecdctr import processes
from ecdctr.artifacts.checkpoints import MARKER, TENSORS, CheckpointFolder
from ecdctr.artifacts.files import FORGOTTEN_SECONDS, HELD, new_folder, write_json
from ecdctr.artifacts.store import MANIFEST, ArtifactStore
from ecdctr.exceptions import IntegrityError

pytestmark = pytest.mark.unit


def save_two(root: Path) -> CheckpointFolder:
    folder = CheckpointFolder(root, "task")
    for step in (10, 20):
        folder.save(step, {"w": torch.full((4,), float(step))}, {"loss": step / 2})
    return folder


def test_the_newest_whole_checkpoint_wins(tmp_path):
    folder = save_two(tmp_path)
    assert folder.whole() == [10, 20]
    tensors, parts, record = folder.load(20)
    assert (parts, record) == ({}, {"loss": 10.0})
    assert torch.equal(tensors["w"], torch.full((4,), 20.0))


@pytest.mark.parametrize("place", [0, 1, 8, -2, -1])
def test_a_flipped_byte_anywhere_means_the_checkpoint_before(tmp_path, place):
    folder = save_two(tmp_path)
    path = tmp_path / "step-000000020" / TENSORS
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(bytes(data))
    assert folder.whole() == [10]


@pytest.mark.parametrize("keep", [0, 1, 50])
def test_a_truncated_checkpoint_means_the_one_before(tmp_path, keep):
    folder = save_two(tmp_path)
    path = tmp_path / "step-000000020" / TENSORS
    path.write_bytes(path.read_bytes()[:keep])
    assert folder.whole() == [10]


@pytest.mark.parametrize("name", [MARKER, TENSORS])
def test_marker_without_file_and_file_without_marker(tmp_path, name):
    folder = save_two(tmp_path)
    (tmp_path / "step-000000020" / name).unlink()
    assert folder.whole() == [10]


def test_a_checkpoint_of_another_task_is_passed_over(tmp_path):
    save_two(tmp_path)
    assert CheckpointFolder(tmp_path, "another").whole() == []


def test_only_the_newest_are_kept(tmp_path):
    folder = save_two(tmp_path)
    folder.save(30, {"w": torch.zeros(1)}, {})
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000020", "step-000000030"]


DAMAGED = [damaged for number in range(4) for damaged in itertools.combinations((10, 20, 30), number)]


@pytest.mark.parametrize("damaged", DAMAGED, ids=str)
def test_a_training_that_goes_on_behind_damaged_checkpoints_keeps_what_it_saves(tmp_path, damaged):
    before = CheckpointFolder(tmp_path, "task", keep=3)
    for step in (10, 20, 30):
        before.save(step, {"w": torch.ones(1)}, {})
    for step in damaged:
        (tmp_path / f"step-{step:09d}" / TENSORS).write_bytes(b"")
    folder = CheckpointFolder(tmp_path, "task")
    whole = folder.whole()
    assert whole == [step for step in (10, 20, 30) if step not in damaged]
    start = max(whole, default=0)
    if start:
        folder.load(start)
    come_by = [start] if start else []
    for step in range(start + 5, 60, 5):
        folder.save(step, {"w": torch.zeros(1)}, {})
        come_by.append(step)
        assert folder.whole() == come_by[-2:]
        assert len(list(tmp_path.iterdir())) == len(come_by[-2:])


def test_a_failed_write_leaves_what_was_there(tmp_path):
    target = tmp_path / "v"
    with new_folder(target) as folder:
        (folder / "a").write_text("old")

    def fail():
        with new_folder(target) as folder:
            (folder / "a").write_text("new")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_json_refuses_nan_and_leaves_the_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def publish(store: ArtifactStore) -> None:
    with store.publish("v1", {"steps": 3}) as folder:
        (folder / "weights").write_bytes(b"1234")


def test_a_version_comes_with_its_record(tmp_path):
    store = ArtifactStore(tmp_path)
    publish(store)
    assert store.record("v1") == {"steps": 3}
    assert store.record("v2") is None


@pytest.mark.parametrize("damage", ["flip", "remove", "manifest"])
def test_a_damaged_version_is_named(tmp_path, damage):
    store = ArtifactStore(tmp_path)
    publish(store)
    if damage == "flip":
        (tmp_path / "v1" / "weights").write_bytes(b"1235")
    elif damage == "remove":
        (tmp_path / "v1" / "weights").unlink()
    else:
        (tmp_path / "v1" / MANIFEST).write_text("{")
    with pytest.raises(IntegrityError, match="v1"):
        store.verify("v1")
    assert store.record("v1") is None


WRITER = (
    "import sys; from pathlib import Path; from ecdctr.artifacts.files import new_folder\n"
    "with new_folder(Path(sys.argv[1]) / 'v2') as folder:\n"
    "    (folder / 'weights').write_bytes(b'1'); print(folder.name, flush=True); sys.stdin.read()"
)


@pytest.fixture
def writer(tmp_path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Another process, and the folder that it fills beside v1."""
    publish(ArtifactStore(tmp_path))
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield process, tmp_path / process.stdout.readline().decode().strip()
    process.kill()
    process.communicate()


def age(*paths: Path) -> None:
    """Make files and folders two days old."""
    for path in paths:
        os.utime(path, (time.time() - 2 * FORGOTTEN_SECONDS,) * 2)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_leftovers_of_a_killed_writer_are_removed(tmp_path, writer):
    process, folder = writer
    assert names(tmp_path) == {"v1", folder.name, folder.name + HELD}
    age(folder, tmp_path / (folder.name + HELD))
    ArtifactStore(tmp_path).clean()
    assert names(tmp_path) == {"v1", folder.name, folder.name + HELD}
    process.kill()
    process.wait()
    os.utime(folder)
    ArtifactStore(tmp_path).clean()
    assert names(tmp_path) == {"v1"}


def test_a_free_lock_of_another_machine_tells_nothing(tmp_path, writer, monkeypatch):
    process, folder = writer
    process.kill()
    process.wait()
    monkeypatch.setattr(processes, "kernel", lambda: "another")
    ArtifactStore(tmp_path).clean()
    assert names(tmp_path) == {"v1", folder.name, folder.name + HELD}
    monkeypatch.setattr(processes, "kernel", lambda: None)
    ArtifactStore(tmp_path).clean()
    assert folder.exists()
    age(folder, tmp_path / (folder.name + HELD))
    ArtifactStore(tmp_path).clean()
    assert names(tmp_path) == {"v1"}


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EAGAIN, errno.EBADF])
def test_without_locks_age_alone_tells(tmp_path, monkeypatch, error):
    def refuse(*_):
        raise OSError(error, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    store = ArtifactStore(tmp_path)
    with store.publish("v1", {}) as folder:
        assert names(tmp_path) == {folder.name}
        ArtifactStore(tmp_path).clean()
        assert folder.exists()
    monkeypatch.undo()
    (tmp_path / ".tmp-killed" / "part").mkdir(parents=True)
    store.clean()
    assert names(tmp_path) == {"v1", ".tmp-killed"}
    age(tmp_path / ".tmp-killed")
    store.clean()
    assert names(tmp_path) == {"v1"}


def test_locks_and_files_that_are_left_alone_are_removed(tmp_path):
    store = ArtifactStore(tmp_path)
    kernel = processes.kernel()
    assert kernel is not None
    ended, foreign, file = tmp_path / f".tmp-a{HELD}", tmp_path / f".tmp-b{HELD}", tmp_path / ".tmp-c"
    ended.write_text(kernel)
    foreign.touch()
    file.touch()
    store.clean()
    assert names(tmp_path) == {foreign.name, file.name}
    age(foreign, file)
    store.clean()
    assert names(tmp_path) == set()


def test_the_lock_is_one_that_other_machines_are_told_of(tmp_path):
    with new_folder(tmp_path / "v") as folder:
        lock = tmp_path / (folder.name + HELD)
        mode = {int(line.split()[1], 8) for line in open_flags(lock)}
        assert lock.is_file()
        assert len(mode) == 1
        assert mode.pop() & os.O_ACCMODE == os.O_WRONLY
        with lock.open("r+b") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert names(tmp_path) == {"v"}


def open_flags(path: Path) -> list[str]:
    """How this process has opened a file, as /proc tells it."""
    descriptors = [entry for entry in Path("/proc/self/fd").iterdir() if os.path.realpath(entry) == str(path)]
    texts = [Path(f"/proc/self/fdinfo/{entry.name}").read_text() for entry in descriptors]
    return [line for text in texts for line in text.splitlines() if line.startswith("flags:")]


def test_what_a_living_writer_fills_is_no_leftover(tmp_path):
    store = ArtifactStore(tmp_path)
    with store.publish("v1", {}) as folder:
        (folder / "weights").write_bytes(b"1")
        ArtifactStore(tmp_path).clean()
        assert folder.exists()
        (folder / "more").write_bytes(b"2")
    store.verify("v1")
    assert [path.name for path in tmp_path.iterdir()] == ["v1"]
