"""Writing files so that a reader sees all of them or nothing."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecdctr.exceptions import InputError

TEMPORARY_PREFIX = ".tmp-"
FORGOTTEN_SECONDS = 86_400


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the bytes of a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, tree: Any, *, sort_keys: bool = True) -> None:
    """Replace a JSON file in one step: temporary file, fsync, rename.

    Args:
        path: The file.
        tree: What it is to hold.
        sort_keys: False where the order of keys means something.
    """
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(tree, file, indent=1, sort_keys=sort_keys, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """The same immutable bytes under a second name: without a copy on one file system, else copied."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target` when the block ends well, and vanishes when it does not.

    An earlier folder at `target` is replaced only once the new one is complete and synced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=target.parent))
    lock = hold(temporary)
    try:
        yield temporary
        for path in temporary.rglob("*"):
            sync(path)
        sync(temporary)
        if target.exists():
            shutil.rmtree(target)
        temporary.chmod(0o755)
        temporary.rename(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def hold(folder: Path) -> int:
    """Mark a temporary folder as one that a living process fills, until what is returned is closed."""
    descriptor = os.open(folder, os.O_RDONLY)
    # Where a file system has no locks, age alone tells.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def is_left_over(folder: Path) -> bool:
    """Whether whoever filled a temporary folder is gone: nobody holds it, or it is a day old where locks are not told of."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - os.fstat(descriptor).st_mtime > FORGOTTEN_SECONDS
    finally:
        os.close(descriptor)
    return True


@contextlib.contextmanager
def new_file(target: Path, suffix: str = "") -> Iterator[Path]:
    """Yield where to write a file that becomes `target` when the block ends well; until then an earlier one stays.

    Args:
        target: The file; its folder is made where it is missing.
        suffix: How the name of what is written ends.

    Raises:
        InputError: Nothing can be written there, or it is a folder.
    """
    if target.is_dir():
        raise InputError(f"{target} is a folder, a file was expected", hint="name the file to write")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=target.parent))
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error}", hint="name a file in a folder of yours") from error
    try:
        written = folder / f"new{suffix}"
        yield written
        sync(written)
        written.replace(target)
        sync(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
