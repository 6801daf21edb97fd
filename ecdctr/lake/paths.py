"""Paths as Spark is given them."""

import re
from pathlib import Path

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def spark_path(path: str | Path) -> str:
    """The path for Spark; one without a scheme is of this machine, on a cluster whose `fs.defaultFS` is another as well.

    Args:
        path: A file, a folder or a pattern, relative or absolute, or one with a scheme, which stays as it is.
    """
    # Not as a URI: Hadoop takes the characters of a path as they are, percent signs included. With one slash, as Hadoop itself
    # names local files: Delta takes another spelling for another place.
    return str(path) if _SCHEME.match(str(path)) else f"file:{Path(path).absolute()}"
