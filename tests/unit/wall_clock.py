"""A wall clock that is set while processes run."""

import psutil


def set_clock(monkeypatch, seconds: float) -> None:
    """Set it forward: the kernel then says that the machine started later by as much, and so did all processes."""
    whole = psutil._pslinux.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: whole + seconds)
