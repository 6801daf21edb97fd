"""Compiled libraries of this package, built when it is installed; where one was not, something slower does its work."""

import ctypes
from pathlib import Path


def built(beside: str, name: str) -> Path | None:
    """Where a library is; None where it was not built.

    Args:
        beside: A module's `__file__`: libraries lie in the package that calls them.
        name: Of its extension module.
    """
    found = sorted(Path(beside).parent.glob(f"{name}*.so"))
    return found[-1] if found else None


def library(beside: str, name: str) -> ctypes.CDLL | None:
    """A library, loaded; None where it was not built, or not for this machine."""
    path = built(beside, name)
    try:
        return ctypes.CDLL(str(path)) if path else None
    except OSError:
        return None
