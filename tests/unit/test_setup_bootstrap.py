"""Set-up: what it says when something is missing or breaks, and what it leaves behind."""

import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootstrap import cache, horovod_wheel
from bootstrap.command import SetupError, cause, run

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]
PREREQUISITES = ROOT / "bootstrap" / "prerequisites.sh"


def fake_tools(folder: Path, *, without: str = "", java: str = "17.0.1") -> dict[str, str]:
    """A PATH of stand-ins that all answer as a good machine's would."""
    folder.mkdir()
    for name in ("make", "cmake", "c++", "uv"):
        (folder / name).write_text("#!/bin/sh\nexit 0\n")
    (folder / "java").write_text(f"#!/bin/sh\necho 'openjdk version \"{java}\" 2025' >&2\n")
    (folder / "python3.11").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for file in folder.iterdir():
        file.chmod(0o755)
    (folder / "sed").symlink_to("/bin/sed")
    if without:
        (folder / without).unlink()
    return {"PATH": str(folder)}


def look(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", PREREQUISITES], env=env, capture_output=True, text=True, check=False)


def test_a_complete_machine_passes_and_names_its_python(tmp_path):
    answer = look(fake_tools(tmp_path / "bin"))
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "python3.11"


@pytest.mark.parametrize(
    ("tool", "named", "package"),
    [
        ("python3.11", "Python 3.11 not found", "python3.11"),
        ("java", "JDK 17 (java is missing) not found", "openjdk-17-jdk-headless"),
        ("c++", "C++20 compiler (c++) not found", "g++"),
        ("cmake", "cmake not found", "cmake"),
        ("make", "make not found", "make"),
    ],
)
def test_a_missing_prerequisite_is_named_with_its_package(tmp_path, tool, named, package):
    answer = look(fake_tools(tmp_path / "bin", without=tool))
    assert answer.returncode == 2
    (line,) = answer.stderr.strip().splitlines()
    assert named in line
    assert f"apt-get install {package}" in line


def test_another_jdk_is_not_enough(tmp_path):
    answer = look(fake_tools(tmp_path / "bin", java="11.0.2"))
    assert answer.returncode == 2
    assert "JDK 17 (java is version 11)" in answer.stderr


def test_all_that_is_missing_is_named_at_once(tmp_path):
    env = fake_tools(tmp_path / "bin", without="cmake")
    answer = look(env | {"JAVA_HOME": "/nowhere", "CXX": "no-such-compiler"})
    assert [line.split(" not found")[0] for line in answer.stderr.splitlines()] == [
        "set-up: JDK 17 (/nowhere/bin/java is missing)",
        "set-up: C++20 compiler (no-such-compiler)",
        "set-up: cmake",
    ]


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("ok\nCMake Error at x:1: no torch\nERROR: Failed building wheel\n", "CMake Error at x:1: no torch"),
        ("a.cc:1: error: bad\ncc: No space left on device\nmake: *** Error 1\n", "cc: No space left on device"),
        (
            "error: subprocess-exited-with-error\n  subprocess.CalledProcessError: 'cmake' exited with 1\n"
            "ERROR: Failed building wheel for horovod\n",
            "subprocess.CalledProcessError: 'cmake' exited with 1",
        ),
        (
            ":: UNRESOLVED DEPENDENCIES ::\n:: a#b;1: not found\nx [unresolved dependency: a#b;1: not found]\n",
            "x [unresolved dependency: a#b;1: not found]",
        ),
        ("\x1b[31m\nhello\n\n", "hello"),
        ("", "it printed nothing"),
    ],
)
def test_a_log_gives_its_cause(tmp_path, log, said):
    file = tmp_path / "log"
    file.write_text(log)
    assert cause(file) == said


@pytest.fixture
def no_wheel(tmp_path, monkeypatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ecdctr" / "horovod"


def stand_in_for_pip(monkeypatch, script: str) -> None:
    real = horovod_wheel.run

    def fake(step, command, log, **options):
        destination = command[command.index("--wheel-dir") + 1]
        real(step, ["/bin/sh", "-c", script, "sh", destination], log, **options)

    monkeypatch.setattr(horovod_wheel, "run", fake)


def test_a_wheel_is_built_once(no_wheel, monkeypatch):
    stand_in_for_pip(monkeypatch, 'echo x >> "$XDG_CACHE_HOME/builds"; mkdir "$1" && touch "$1/horovod-9-cp311.whl"')
    built = [horovod_wheel.build_wheel(Path(sys.executable), "9", "2") for _ in range(2)]
    assert built[0] == built[1] == horovod_wheel.cached_wheel("9", "2")
    assert (no_wheel.parents[1] / "builds").read_text() == "x\n"
    assert horovod_wheel.cached_wheel("9", "3") is None


def test_a_failed_build_leaves_no_half_wheel_and_says_why_in_one_line(no_wheel, monkeypatch):
    stand_in_for_pip(
        monkeypatch, 'mkdir "$1"; touch "$1/horovod-9.whl"; echo "x.cc:1: fatal error: no torch.h"; exit 1'
    )
    with pytest.raises(SetupError) as caught:
        horovod_wheel.build_wheel(Path(sys.executable), "9", "2")
    message = str(caught.value)
    assert message.startswith("building Horovod 9 failed: x.cc:1: fatal error: no torch.h; log: ")
    assert "\n" not in message
    assert Path(message.rsplit("log: ", 1)[1]).is_file()
    assert list(no_wheel.iterdir()) == []


def test_leftovers_of_a_killed_build_are_cleared(no_wheel, monkeypatch):
    (no_wheel / f"{horovod_wheel._prefix()}killed" / "result").mkdir(parents=True)
    stand_in_for_pip(monkeypatch, 'mkdir "$1" && touch "$1/horovod-9.whl"')
    wheel = horovod_wheel.build_wheel(Path(sys.executable), "9", "2")
    assert [entry.name for entry in no_wheel.iterdir()] == [wheel.parent.name]


@pytest.mark.parametrize("locks", [True, False])
def test_builds_of_other_machines_or_without_locks_are_cleared_when_a_day_old(no_wheel, monkeypatch, locks):
    own, other = no_wheel / f"{horovod_wheel._prefix()}x", no_wheel / f"{horovod_wheel.UNFINISHED}other-x"
    own.mkdir(parents=True)
    other.mkdir()
    stand_in_for_pip(monkeypatch, 'mkdir "$1" && touch "$1/horovod-9.whl"')
    if not locks:
        monkeypatch.setattr(cache.fcntl, "flock", no_locks)
    wheel = horovod_wheel.build_wheel(Path(sys.executable), "9", "2")
    kept = {other.name} if locks else {own.name, other.name}
    assert {entry.name for entry in no_wheel.iterdir()} == {wheel.parent.name} | kept
    for folder in (own, other):
        if folder.exists():
            os.utime(folder, (0, 0))
    assert horovod_wheel.build_wheel(Path(sys.executable), "9", "2") == wheel
    assert [entry.name for entry in no_wheel.iterdir()] == [wheel.parent.name]


def no_locks(*_) -> None:
    raise OSError(errno.ENOLCK, "no locks available")


def test_without_locks_a_set_up_goes_on_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cache.fcntl, "flock", no_locks)
    with cache.locked(tmp_path / "held") as alone:
        assert not alone
    assert "cannot be locked (no locks available)" in capsys.readouterr().out


def test_the_lock_is_one_that_other_machines_are_told_of(tmp_path):
    with cache.locked(tmp_path / "held") as alone:
        assert alone
        assert [path.name for path in tmp_path.iterdir()] == [f"held{cache.HELD}"]
        with (tmp_path / f"held{cache.HELD}").open("r+b") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_an_interrupted_build_takes_its_children_along(no_wheel):
    script = (
        "import signal; from pathlib import Path; from bootstrap import horovod_wheel as w; real = w.run\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "w.run = lambda s, c, log, **o: real(s, ['/bin/sh', '-c', 'echo $$; sleep 600'], log, **o)\n"
        "w.build_wheel(Path('/usr/bin/python3'), '9', '2')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    log = no_wheel.parent / "logs" / f"horovod-{horovod_wheel.wheel_folder('9', '2').name}.log"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(log.read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) != 0
    assert not Path(f"/proc/{child}").exists()
    assert list(no_wheel.iterdir()) == []


def test_a_command_beyond_its_limit_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("bootstrap.command.HEARTBEAT_SECONDS", 0.1)
    with pytest.raises(SetupError, match=r"waiting did not end within 0 s"):
        run("waiting", ["sleep", "600"], tmp_path / "log", limit=0.2)


def test_the_compiler_wrapper_forces_the_standard(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "echo")
    monkeypatch.setenv("HOROVOD_WITH_MPI", "1")
    monkeypatch.setenv("MAKEFLAGS", "--jobserver-auth=3,4")
    env = horovod_wheel._environment(Path(sys.executable), tmp_path)
    said = subprocess.run([env["CXX"], "-std=c++17", "a b.cc"], env=env, capture_output=True, text=True, check=True)
    assert said.stdout == "-std=c++17 a b.cc -std=c++20\n"
    assert "HOROVOD_WITH_MPI" not in env
    assert env["MAKEFLAGS"] == f"-j{len(os.sched_getaffinity(0))}"


def _hold(folder: Path, times: "multiprocessing.Queue[tuple[float, float]]") -> None:
    with cache.locked(folder):
        begun = time.monotonic()
        time.sleep(0.5)
        ended = time.monotonic()
    times.put((begun, ended))


def test_two_set_ups_take_turns(tmp_path):
    context = multiprocessing.get_context("spawn")
    times = context.Queue()
    workers = [context.Process(target=_hold, args=(tmp_path / "held", times)) for _ in range(2)]
    for worker in workers:
        worker.start()
    # Each tells both times at once: queues of two processes do not keep the order between them.
    first, second = sorted(times.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(timeout=60)
    assert first[1] - first[0] >= 0.5
    assert second[0] >= first[1]
