"""Put a report into its folder: each file whole or not at all."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecdctr.report.html import render_html
from ecdctr.report.schema import Report


def write_report(report: Report, folder: Path) -> dict[str, str]:
    """Write `report.json` and the self-contained `report.html`.

    Both are rendered before either is written; each replaces its predecessor by a rename, so that a reader never sees
    half a file and a full disk leaves the earlier ones as they were.

    Args:
        report: What to say.
        folder: Made where it is missing.

    Returns:
        SHA-256 of each file by name.
    """
    return write_files(folder, {"report.json": as_json(report.tree()), "report.html": render_html(report)})


def as_json(tree: dict[str, Any]) -> str:
    """Readable JSON; a value that JSON has no word for is refused."""
    return json.dumps(tree, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_files(folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Write texts by name into a folder, each whole or not at all; the folder is made where it is missing.

    Returns:
        SHA-256 of each file by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        _replace(folder / name, text)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            # A temporary file is its owner's alone; a report is there to be read.
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
