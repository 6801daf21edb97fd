"""The user's cache: where it is, and how one process at a time changes it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootstrap.command import say


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/ecdctr``, or ``~/.cache/ecdctr``; the same as `ecdctr.lake.jars.cache_folder`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ecdctr"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other set-ups; the lock ends with the process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another set-up that holds {folder}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
