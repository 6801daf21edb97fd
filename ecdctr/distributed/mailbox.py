"""A folder through which the driver and its ranks speak: JSON files that appear whole or not at all.

    task-00001.json            what all ranks are to run; written by the driver
    result-00001-rank0.json    what it gave on a rank, or the rank's error
    ready-rank0.json           the rank has joined; how long that took
    driver.json, rank0.json    a counter that moves while its writer lives; a rank's also tells where its task stands
    stop, close, abort         the task is to end at its next step; ranks are to leave when idle; ranks are to leave now
    rank0.log                  all that a rank writes to stdout and stderr

Lives are told by a counter that changes, never by a file's time: clocks of machines differ.
"""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

STOP, CLOSE, ABORT = "stop", "close", "abort"
DRIVER = "driver.json"
OPENINGS = 4
"""How often a file is opened whose replacement took away what was being read."""


class Mailbox:
    """The folder, on a file system that the driver and all ranks share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file, so that a reader sees the old one or the new one."""
        unfinished = self.folder / f".{name}.{os.getpid()}"
        unfinished.write_text(json.dumps(value), encoding="utf-8")
        unfinished.replace(self.folder / name)

    def read(self, name: str) -> Any | None:
        """The value of a file; None while there is none, or none that stays long enough to be read."""
        for _ in range(OPENINGS):
            try:
                return json.loads((self.folder / name).read_text(encoding="utf-8"))
            except FileNotFoundError:
                return None
            except OSError as error:
                # NFS does not keep a replaced file for those who have it open.
                if error.errno != errno.ESTALE:
                    raise
        return None

    def raise_flag(self, name: str) -> None:
        """Set `STOP`, `CLOSE` or `ABORT`."""
        (self.folder / name).touch()

    def has(self, name: str) -> bool:
        """Whether a file or flag is there."""
        return (self.folder / name).exists()

    def log_of(self, rank: int) -> Path:
        """The log of a rank."""
        return self.folder / f"rank{rank}.log"


def task_name(number: int) -> str:
    """File name of a task; numbers count from 1."""
    return f"task-{number:05d}.json"


def result_name(number: int, rank: int) -> str:
    """File name of what a task gave on a rank."""
    return f"result-{number:05d}-rank{rank}.json"


def ready_name(rank: int) -> str:
    """File name of a rank's report that it has joined."""
    return f"ready-rank{rank}.json"


def life_name(rank: int) -> str:
    """File name of a rank's counter."""
    return f"rank{rank}.json"


class Pulse:
    """How long a counter has stood still, by this process's own clock."""

    def __init__(self) -> None:
        self._beat: int | None = None
        self._since = time.monotonic()

    def see(self, beat: int | None) -> float:
        """Take note of the counter as it is now, and return for how many seconds it has been so."""
        now = time.monotonic()
        if beat != self._beat:
            self._beat, self._since = beat, now
        return now - self._since
