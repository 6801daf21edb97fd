"""Who is at work on a warehouse: one writer at a time, and readers whose pinned versions must stay."""

import fcntl
import functools
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ecdctr import processes
from ecdctr.exceptions import TemporaryError

logger = logging.getLogger(__name__)

FOLDER = "_leases"
WAIT_SECONDS = 3600.0
ELSEWHERE_SECONDS = 2 * 86_400.0
"""Leases of other machines and containers, whose processes cannot be looked at, hold this long after they were last renewed."""
RENEWED_SECONDS = 60.0
"""A lease is renewed this often at most."""


@contextmanager
def exclusive(root: Path, job: str, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold a job's place in a warehouse; another process or thread with the same job waits.

    The operating system gives the place free when its holder ends, however it ends. Over a file system without locks nobody
    waits: Delta's transactions then let one of two writers fail, unless both commit within a fraction of a millisecond.

    Raises:
        TemporaryError: It was not free for so long.
    """
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    deadline, told = time.monotonic() + wait_seconds, False
    with (folder / f"{job}.lock").open("w") as file:
        while not _locked(file, root):
            if time.monotonic() > deadline:
                raise TemporaryError(
                    f"another {job} of {root} has not ended for {wait_seconds:,.0f} s", hint="try again later"
                )
            if not told:
                logger.info("waiting for another %s of %s", job, root)
                told = True
            time.sleep(0.2)
        yield


def _locked(file: IO[str], root: Path) -> bool:
    """Whether the lock is held now; a file system without locks, which nobody can hold there, is no reason to wait."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        _warn_of_no_locks(root, str(error))
    return True


@functools.cache
def _warn_of_no_locks(root: Path, reason: str) -> None:
    logger.warning("%s has no locks (%s): see to it that one job at a time writes there", root, reason)


class Lease:
    """The versions of tables that a running job reads; a file in the warehouse, which clean-up honours.

    Args:
        root: The warehouse's folder.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / FOLDER / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
        self._pins: dict[str, set[int]] = {}
        self._renewed = 0.0

    def pin(self, table: str, version: int) -> None:
        """Hold a version until `release`, or until this process ends."""
        self._pins.setdefault(table, set()).add(version)
        self._write()

    def renew(self) -> None:
        """Show other machines that the job goes on; to be called often, since it costs next to nothing."""
        if not self._pins or time.monotonic() - self._renewed < RENEWED_SECONDS:
            return
        self._renewed = time.monotonic()
        try:
            os.utime(self.path)
        except FileNotFoundError:
            # This machine may have stood still for so long that another one took the job for ended.
            self._write()

    def _write(self) -> None:
        self._renewed = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        tree = {
            "process": processes.identity(),
            "tables": {name: sorted(versions) for name, versions in self._pins.items()},
        }
        draft = self.path.with_suffix(".tmp")
        draft.write_text(json.dumps(tree))
        draft.replace(self.path)

    def release(self) -> None:
        """Let go of all versions."""
        self._pins.clear()
        self.path.unlink(missing_ok=True)


def leased(root: Path) -> dict[str, set[int]]:
    """The versions that running jobs hold, by table; leases of jobs that have ended are removed.

    Raises:
        TemporaryError: A lease cannot be read.
    """
    pins: dict[str, set[int]] = {}
    for file in sorted((root / FOLDER).glob("*.json")):
        try:
            tree = json.loads(file.read_text())
            age = time.time() - file.stat().st_mtime
            if _has_ended(tree, age):
                logger.info("removing %s, whose job has ended", file)
                file.unlink(missing_ok=True)
                continue
            for table, versions in tree["tables"].items():
                pins.setdefault(table, set()).update(map(int, versions))
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise TemporaryError(f"{file} is no readable lease", hint="remove it if its job has ended") from error
    return pins


def _has_ended(tree: dict[str, object], age: float) -> bool:
    ended = processes.has_ended(tree["process"])
    return age > ELSEWHERE_SECONDS if ended is None else ended
