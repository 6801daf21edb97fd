"""`make setup`: every step that is not done yet, and only those."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from bootstrap.cache import cache_folder, locked
from bootstrap.command import SetupError, run, say
from bootstrap.horovod_wheel import build_wheel, cached_wheel

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
CONSTRAINTS = ROOT / "constraints.txt"
INSTALLED_FROM = [CONSTRAINTS, ROOT / "setup.py", *sorted((ROOT / "ecdctr").glob("*/*.cpp"))]
STAMPS = ENVIRONMENT / "set-up"
EXTRAS = "tracking,export,dev,bench"
INSTALLERS = ["pip", "setuptools", "wheel"]
HOROVOD_NEEDS = ["torch", "packaging", "cffi", "cloudpickle", "psutil", "pyyaml"]


def main() -> int:
    """Bring the clone's environment up to date; exit code 0 when it is."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.chdir(ROOT)
    started = time.monotonic()
    try:
        with locked(ENVIRONMENT):
            changed = [create_environment(), install_packages(), fetch_jars()]
    except SetupError as error:
        sys.stderr.write(f"set-up: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("set-up: interrupted; nothing half-made is left, `make setup` goes on from here\n")
        return 130
    if any(changed):
        say(f"ready after {time.monotonic() - started:.0f} s")
    return 0


def create_environment() -> bool:
    """Make `.venv` for this interpreter at this place; a moved or foreign one is replaced."""
    key = f"{sys.version} {ROOT}"
    if PYTHON.exists() and _stamped("environment", key):
        return False
    say(f"creating {ENVIRONMENT.name} with Python {sys.version.split()[0]}{' and uv' if _uv() else ''}")
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    uv = _uv()
    command = [uv, "venv", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
    run("creating .venv", [*command, str(ENVIRONMENT)], _log("environment"))
    _stamp("environment", key)
    return True


def install_packages() -> bool:
    """Install everything at its pinned version, Horovod's wheel and this package (editable) included."""
    key = hashlib.sha256(b"".join(path.read_bytes() for path in INSTALLED_FROM)).hexdigest()
    if (ENVIRONMENT / "bin" / "ecdctr").exists() and _stamped("packages", key):
        return False
    say(f"installing packages from {CONSTRAINTS.name}; log: {_log('packages')}")
    _install("installing the installers", INSTALLERS)
    horovod, torch = _version("horovod", ROOT / "setup.py"), _version("torch", CONSTRAINTS)
    wheel = cached_wheel(horovod, torch)
    if wheel is None:
        _install("installing what Horovod builds on", HOROVOD_NEEDS)
        wheel = build_wheel(PYTHON, horovod, torch)
    _install("installing packages", ["--no-build-isolation", str(wheel), "-e", f"{ROOT}[{EXTRAS}]"])
    try:
        run("loading Horovod", [str(PYTHON), "-c", "import pyarrow, horovod.torch"], _log("horovod-import"))
    except SetupError as error:
        raise SetupError(f"{error}; if the wheel is broken, delete {wheel.parent}") from None
    _stamp("packages", key)
    return True


def fetch_jars() -> bool:
    """Have Delta's jars in the user's cache, checked against their published digests."""
    quick = [str(PYTHON), "-c", "from ecdctr.lake.jars import delta_jars; delta_jars()"]
    if subprocess.run(quick, capture_output=True, check=False).returncode == 0:
        return False
    say(f"fetching Delta's jars; log: {_log('jars')}")
    with locked(cache_folder() / "jars"):
        run("fetching Delta's jars", [str(PYTHON), "-m", "bootstrap.fetch_jars"], _log("jars"), limit=900)
    return True


def _install(step: str, arguments: list[str]) -> None:
    uv = _uv()
    command = [uv, "pip", "install", "--python", str(PYTHON)] if uv else [str(PYTHON), "-m", "pip", "install"]
    run(step, [*command, "-c", str(CONSTRAINTS), *arguments], _log("packages"))


def _uv() -> str | None:
    return shutil.which("uv")


def _log(step: str) -> Path:
    return cache_folder() / "logs" / f"{step}-{hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:8]}.log"


def _version(name: str, file: Path) -> str:
    found = re.search(rf'^[\s"]*{name}==([\w.]+)', file.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise SetupError(f"{file.name} has no line {name}==VERSION")
    return found[1]


def _stamped(step: str, key: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return (STAMPS / step).read_text(encoding="utf-8") == key
    return False


def _stamp(step: str, key: str) -> None:
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / step).write_text(key, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
