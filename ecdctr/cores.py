"""Cores that this process may use, which in a container or on a shared node are fewer than the machine has."""

import math
import os
from pathlib import Path

# Microseconds of processor time in each period: one file in the second version of control groups, two in the first.
QUOTA = Path("/sys/fs/cgroup/cpu.max")
OLD_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def allowed() -> list[int]:
    """Numbers of the cores that the system may run this process on, in their order."""
    return sorted(os.sched_getaffinity(0))


def count() -> int:
    """How many cores this process can keep busy: those it may run on, or fewer where a container has a quota of their time."""
    cores, quota = len(allowed()), _quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota() -> float | None:
    """Cores' worth of time that a control group grants; None where it sets no bound, or none can be read."""
    try:
        texts = QUOTA.read_text(encoding="ascii").split() if QUOTA.exists() else [_read(file) for file in OLD_QUOTA]
        time, period = map(int, texts)
    except (OSError, ValueError):
        # The word max, or no control groups.
        return None
    return time / period if time > 0 and period > 0 else None


def _read(file: Path) -> str:
    return file.read_text(encoding="ascii")
