"""The user's cache: where it is, and how one process at a time changes it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootstrap.command import say

HELD = ".held"
"""How the name of the locked file beside a folder ends."""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/ecdctr``, or ``~/.cache/ecdctr``; the same as `ecdctr.lake.jars.cache_folder`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ecdctr"


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold a folder against other set-ups; the lock ends with the process, however that ends.

    The lock is on a file beside the folder: of one on the folder itself, NFS tells other machines nothing. The file stays, since
    whoever waits for it has it open.

    Yields:
        Whether it is held: some file systems have no locks.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder.with_name(folder.name + HELD), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _lock(handle, folder)
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> bool:
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another set-up that holds {folder}")
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        say(f"{folder} cannot be locked ({error.strerror}): run one set-up at a time")
        return False
    return True
