"""Long commands with a log, a sign of life, and a failure that fits on one line."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

HEARTBEAT_SECONDS = 30
# The first kind that occurs in a log is what went wrong; what follows it are consequences.
CAUSES = (
    r"No space left on device|Killed signal|Out of memory|MemoryError",
    r"CMake Error|fatal error:|: error: |undefined reference",
    r"Server access error|unresolved dependency:|SHA-1|what Maven Central publishes",
    r"No matching distribution|Could not find a version|No solution found|Temporary failure|Connection refused",
    r"(?i)^\W*([\w.]*error|fatal)\b(?!: subprocess-exited|: metadata-generation|: failed building|: failed to build)",
)


class SetupError(Exception):
    """A step that failed, told in one line."""


def say(message: str) -> None:
    """Show one line of progress."""
    sys.stdout.write(f"set-up: {message}\n")
    sys.stdout.flush()


def run(
    step: str, command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, limit: float = 3600
) -> None:
    """Run a command to its end, with all it prints in a log.

    Args:
        step: What the command does, for messages.
        command: Program and arguments.
        log: File that takes stdout and stderr.
        env: Environment; the own one by default.
        limit: Seconds after which the command and its children are stopped.

    Raises:
        SetupError: It failed or took too long; names the cause and the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("wb") as sink:
        # A group of its own, so that an interrupted build stops with all of its compilers.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env, start_new_session=True
        )
        try:
            _wait(step, process, started, limit)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode:
        raise SetupError(f"{step} failed: {cause(log)}; log: {log}")


def _wait(step: str, process: subprocess.Popen[bytes], started: float, limit: float) -> None:
    while True:
        try:
            process.wait(timeout=HEARTBEAT_SECONDS)
            return
        except subprocess.TimeoutExpired:
            seconds = time.monotonic() - started
            if seconds > limit:
                raise SetupError(f"{step} did not end within {limit:.0f} s") from None
            say(f"{step}: {seconds:.0f} s")


def cause(log: Path) -> str:
    """The line of a log that says why, cut to a readable length; its last line when none does."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    for pattern in CAUSES:
        for line in lines:
            if re.search(pattern, line):
                return line[:200]
    return lines[-1][:200] if lines else "it printed nothing"
