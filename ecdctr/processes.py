"""Which process is meant: numbers are given again, and mean others on another machine, in another container, after a restart.

A start is counted in clock ticks since the machine's own: by the wall clock it moves whenever that is set.
"""

import os
from pathlib import Path
from typing import Any

PROC = Path("/proc")


def machine() -> str | None:
    """Equal for processes that see each other by number: the kernel's start, and the namespace of process numbers; None if not told."""
    try:
        # A /proc of another namespace, as in a container without one of its own, tells of others.
        if os.readlink(PROC / "self") != str(os.getpid()):
            return None
        namespace = (PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return None
    boot = kernel()
    return None if boot is None else f"{boot} {namespace}"


def kernel() -> str | None:
    """Names this machine from its start to its next one, alike in all its containers; None if not told."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def identity() -> dict[str, Any]:
    """This process, for `has_ended`; fit for JSON."""
    here = machine()
    return {"pid": os.getpid(), "started": None if here is None else _started(os.getpid()), "machine": here}


def has_ended(process: Any) -> bool | None:
    """Whether the process of an `identity` has ended; None where that cannot be seen from here, or it is of another form.

    Zombies have ended: their parent alone has not taken note.
    """
    if not isinstance(process, dict) or process.get("machine") is None or process["machine"] != machine():
        return None
    try:
        return bool(_started(process["pid"]) != process["started"])
    except (KeyError, PermissionError):
        return None


def _started(pid: int) -> int | None:
    """When a process started, in ticks since the machine's start; None where there is none, or it is a zombie.

    Raises:
        PermissionError: There is one, and /proc does not tell of it.
    """
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        if _is_hidden(pid):
            raise PermissionError(f"process {pid} is hidden in {PROC}") from None
        return None
    # The name before it, in parentheses, may have spaces and parentheses of its own.
    state, *numbers = text[text.rindex(b")") + 1 :].split()
    return None if state in b"ZXx" else int(numbers[18])


def _is_hidden(pid: int) -> bool:
    """Whether a process that /proc does not show is there all the same: of other users it may show none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
