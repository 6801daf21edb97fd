"""Folders of a warehouse that nobody goes on from any more: of trainings and commands that were given up, of versions out of use."""

import contextlib
import shutil
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ecdctr.artifacts.files import TEMPORARY_PREFIX

CHECKPOINTS, SESSIONS, STAGING, ARTIFACTS = "_checkpoints", "_sessions", "_staging", "_artifacts"


@dataclass(frozen=True)
class Leftover:
    """A folder that may go."""

    folder: Path
    bytes: int


def leftovers(root: Path, published: Collection[str], before: float) -> list[Leftover]:
    """Checkpoints, logs of failed sessions and scores in which nothing was written since, and versions that were never published.

    Args:
        root: The warehouse's folder.
        published: Names of the folders of published versions, all of which stay.
        before: Seconds since 1970; a training that is tried again goes on from younger ones.
    """
    found = []
    for folder in _folders(root, published):
        files = [path.stat() for path in (folder, *folder.rglob("*"))]
        if max(status.st_mtime for status in files) < before:
            found.append(Leftover(folder, sum(status.st_size for status in files)))
    return found


def out_of_use(root: Path, artifacts: Collection[str]) -> list[Leftover]:
    """The folders of some versions, as far as they are still there."""
    folders = [root / ARTIFACTS / name for name in sorted(artifacts)]
    return [
        Leftover(folder, sum(path.stat().st_size for path in folder.rglob("*")))
        for folder in folders
        if folder.is_dir()
    ]


def discard(leftover: Leftover) -> None:
    """Remove a folder, which is gone at once or not at all: what an interruption leaves has a temporary name."""
    going = leftover.folder.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    # Its maker may have come back for it, or another clean-up.
    with contextlib.suppress(FileNotFoundError):
        leftover.folder.rename(going)
    shutil.rmtree(going, ignore_errors=True)


def _folders(root: Path, published: Collection[str]) -> Iterator[Path]:
    for place in (CHECKPOINTS, SESSIONS, STAGING):
        yield from (path for path in sorted((root / place).glob("*")) if path.is_dir())
    for path in sorted((root / ARTIFACTS).glob("*")):
        # Of temporary folders the store itself knows whose makers live.
        if path.is_dir() and path.name not in published and not path.name.startswith(TEMPORARY_PREFIX):
            yield path
