"""Writing files so that a reader sees all of them or nothing."""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecdctr import processes
from ecdctr.exceptions import InputError

logger = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".tmp-"
HELD = ".held"
"""How the name of the locked file beside a temporary folder ends."""
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
    with temporary_folder(target.parent) as temporary:
        yield temporary
        for path in temporary.rglob("*"):
            sync(path)
        sync(temporary)
        if target.exists():
            shutil.rmtree(target)
        temporary.chmod(0o755)
        temporary.rename(target)
        sync(target.parent)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder that vanishes with the block, unless moved; until then `remove_leftovers` lets it be, on any machine.

    A locked file beside it tells that its maker lives: of locks on folders, NFS tells other machines nothing.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    lock = _hold(_lock_of(folder))
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            if not folder.exists():
                _lock_of(folder).unlink(missing_ok=True)
            os.close(lock)


def remove_leftovers(parent: Path) -> None:
    """Remove temporary folders whose makers have ended, and locks that are left of some; what others are filling now stays.

    A maker has ended if it was on this machine and its lock is free. Of other machines' locks nothing may be told here: what
    they made goes when it is a day old and not locked, and so does what has no lock.
    """
    for name in sorted({path.name.removesuffix(HELD) for path in parent.glob(f"{TEMPORARY_PREFIX}*")}):
        _remove_if_left_over(parent / name)


def _remove_if_left_over(path: Path) -> None:
    lock = _lock_of(path)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(lock.open("r+b"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ended = file.read() == _here() != b""
        except BlockingIOError:
            return
        except OSError:
            ended = False
        if not ended and _age(path, lock) < FORGOTTEN_SECONDS:
            return
        logger.info("removing the leftover of an interrupted write: %s", path.name)
        with contextlib.suppress(OSError):
            shutil.rmtree(path, ignore_errors=True)
            # A single file, or none.
            path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + HELD)


def _hold(path: Path) -> int | None:
    """Make a file and lock it, until what is returned is closed; None, and no file, where that is not possible."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, _here())
    except OSError:
        # Free for whoever can lock it, the file would say that this process has ended.
        path.unlink(missing_ok=True)
        os.close(descriptor)
        return None
    return descriptor


def _here() -> bytes:
    return (processes.kernel() or "").encode()


def _age(*paths: Path) -> float:
    """Seconds since the last of some files and folders was changed; 0 where there is none."""
    times = []
    for path in paths:
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return time.time() - max(times) if times else 0.0


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
