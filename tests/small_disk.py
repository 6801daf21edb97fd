"""A real file system of two megabytes, which a test can fill."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

BYTES = 2 * 2**20


@dataclass(frozen=True)
class SmallDisk:
    """The file system's folder, and a file that takes what others are not to have."""

    root: Path

    def leave(self, free: int) -> None:
        """Fill it, but for so many bytes; whole pages count."""
        filler = self.root / "filler"
        filler.unlink(missing_ok=True)
        state = os.statvfs(self.root)
        taken = state.f_bavail * state.f_frsize - free
        if taken > 0:
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, taken)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Mounted below `tmp_path`, where that is allowed."""
    root = tmp_path / "small"
    root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={BYTES}", "none", str(root)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a disk that can be filled needs a mount of its own: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(root)
    finally:
        # Spark may still have a folder of it open.
        subprocess.run(["umount", "-l", str(root)], check=True)
