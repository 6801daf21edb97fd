"""Horovod from its source release, built once per user for one (Horovod, torch, Python, machine)."""

import os
import platform
import shutil
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path

from bootstrap.cache import cache_folder, locked
from bootstrap.command import run, say

BUILD_SETTINGS = {
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_CPU_OPERATIONS": "GLOO",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "HOROVOD_WITHOUT_MPI": "1",
    # Gloo's build files name a CMake that CMake 4 refuses to imitate unless told.
    "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
}
# Horovod asks for C++17 and torch's headers need C++20; compilers take the last -std they are given.
COMPILER = '#!/bin/sh\nexec ${ECDCTR_CXX} "$@" -std=c++20\n'
UNFINISHED = ".building-"
FORGOTTEN_SECONDS = 86_400
BOOT = Path("/proc/sys/kernel/random/boot_id")


def wheel_folder(horovod: str, torch: str) -> Path:
    """Where the wheel for these versions is, once it is built."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return cache_folder() / "horovod" / f"{horovod}-torch{torch}-{python}-{platform.machine()}"


def cached_wheel(horovod: str, torch: str) -> Path | None:
    """The finished wheel, if there is one."""
    return next(wheel_folder(horovod, torch).glob("horovod-*.whl"), None)


def build_wheel(python: Path, horovod: str, torch: str) -> Path:
    """Build the wheel unless another process just did; nothing half-made is ever seen under its final name.

    Args:
        python: Interpreter of the environment that holds torch and Horovod's other build requirements.
        horovod: Version to build.
        torch: Version that is installed there.

    Returns:
        The wheel in the user's cache.

    Raises:
        SetupError: The build failed.
    """
    final = wheel_folder(horovod, torch)
    final.parent.mkdir(parents=True, exist_ok=True)
    with locked(final.parent) as alone:
        _remove_leftovers(final.parent, alone)
        if found := cached_wheel(horovod, torch):
            return found
        log = cache_folder() / "logs" / f"horovod-{final.name}.log"
        say(f"building Horovod {horovod} for torch {torch}, about 3 minutes on 2 cores; log: {log}")
        work = Path(tempfile.mkdtemp(prefix=_prefix(), dir=final.parent))
        try:
            result = work / "result"
            command = [str(python), "-m", "pip", "wheel", f"horovod=={horovod}", "--wheel-dir", str(result)]
            # The cache of pip would hand back a wheel that was built against another torch.
            command += ["--no-build-isolation", "--no-deps", "--no-cache-dir", "--no-binary", "horovod"]
            run(f"building Horovod {horovod}", command, log, env=_environment(python, work))
            shutil.rmtree(final, ignore_errors=True)
            result.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return next(final.glob("horovod-*.whl"))


def _remove_leftovers(folder: Path, alone: bool) -> None:
    """Remove what killed builds left: at once where the lock proves them dead, which it does on this machine alone; else when a day old."""
    for leftover in folder.glob(f"{UNFINISHED}*"):
        killed = alone and leftover.name.startswith(_prefix())
        # Without locks, another set-up may be removing it, too.
        with suppress(FileNotFoundError):
            if killed or time.time() - leftover.stat().st_mtime > FORGOTTEN_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)


def _prefix() -> str:
    """How the names of this machine's builds begin, until it starts anew."""
    try:
        return f"{UNFINISHED}{BOOT.read_text(encoding='ascii').strip()[:8]}-"
    except OSError:
        return f"{UNFINISHED}{uuid.uuid4().hex[:8]}-"


def _environment(python: Path, work: Path) -> dict[str, str]:
    compiler = work / "c++20"
    compiler.write_text(COMPILER, encoding="utf-8")
    compiler.chmod(0o755)
    # The caller's Horovod settings would change the build without changing its key; make's own jobs would not fit.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HOROVOD_", "MAKE", "MFLAGS"))}
    return (
        inherited
        | BUILD_SETTINGS
        | {
            "ECDCTR_CXX": os.environ.get("CXX", "c++"),
            "CXX": str(compiler),
            "MAKEFLAGS": f"-j{len(os.sched_getaffinity(0))}",
            "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "TMPDIR": str(work),
        }
    )
