"""Memory and processor time of a process with all that it starts, sampled from outside."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

INTERVAL = 0.3
YOUNG = 0.5
"""Seconds."""
T = TypeVar("T")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """What a tree of processes took.

    Attributes:
        peak_mb: Greatest memory at one moment, in MB (2^20), of the whole tree, of its first process (`driver`), of
            JVMs and of further Python processes (`workers`). Pages that processes share count once (PSS).
        cpu: User and system seconds by process id, as last seen.
        lines: What the first process has printed.
        marks: For each line, when it came, in seconds of wall, of processor time of the tree, and of that of the whole
            machine.
        lock: Held by whoever looks.
    """

    peak_mb: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("tree", "driver", "jvm", "workers"), 0.0))
    cpu: dict[int, float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    marks: list[tuple[float, float, float]] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)


def watch(command: list[str], limit: float, environment: dict[str, str]) -> Usage:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        limit: Seconds after which it is ended.
        environment: Further environment variables.

    Raises:
        RuntimeError: It failed, or took longer.
    """
    usage, ended = Usage(), threading.Event()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | environment, start_new_session=True
    )

    def sample() -> None:
        while not ended.wait(INTERVAL):
            with usage.lock:
                _look(process.pid, usage)

    threads = [threading.Thread(target=sample), threading.Thread(target=_read, args=(process, usage))]
    for thread in threads:
        thread.start()
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        code = process.wait()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        assert process.stdout is not None
        process.stdout.close()
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with {code} (limit {limit:.0f} s)")
    return usage


def _read(process: "subprocess.Popen[str]", usage: Usage) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        came = time.perf_counter()
        with usage.lock:
            _look(process.pid, usage)
            usage.lines.append(line.strip())
            usage.marks.append((came, sum(usage.cpu.values()), _machine()))


def _look(root: int, usage: Usage) -> None:
    parents, now = {}, time.clock_gettime(time.CLOCK_BOOTTIME)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _quietly(entry / "stat", _stat)):
            parents[int(entry.name)] = fields
    tree, size = {root}, 0
    while len(tree) > size:
        size = len(tree)
        tree |= {pid for pid, (parent, _, _, _) in parents.items() if parent in tree}
    found = dict.fromkeys(usage.peak_mb, 0.0)
    for pid in tree & parents.keys():
        _, name, usage.cpu[pid], begun = parents[pid]
        # Between its birth and its program's start, a child shows the memory of its parent as its own.
        if pid != root and now - begun < YOUNG:
            continue
        memory = _quietly(Path(f"/proc/{pid}/smaps_rollup"), _pss) or 0.0
        kind = "driver" if pid == root else "jvm" if name == "java" else "workers"
        found[kind] += memory
        found["tree"] += memory
    for kind, memory in found.items():
        usage.peak_mb[kind] = max(usage.peak_mb[kind], memory)


def _machine() -> float:
    user, nice, system, _, _, irq, soft, stolen, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + soft + stolen) / TICKS


def _quietly(file: Path, parse: Callable[[str], T]) -> T | None:
    try:
        return parse(file.read_text())
    except (OSError, ValueError):
        return None


def _stat(text: str) -> tuple[int, str, float, float]:
    """Parent, name, processor seconds, and start in seconds since the machine's."""
    name, rest = text.split("(", 1)[1].rsplit(")", 1)
    parts = rest.split()
    return int(parts[1]), name, (int(parts[11]) + int(parts[12])) / TICKS, int(parts[19]) / TICKS


def _pss(text: str) -> float:
    (line,) = (line for line in text.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) / 1024


if sys.platform != "linux":
    raise RuntimeError("memory is read from /proc, which Linux alone has")
