"""Logging for people: one line per event on stderr, so that stdout stays free for results."""

import logging
import sys
from pathlib import PurePath

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure(level: str = "INFO") -> None:
    """Send the package's log to stderr, and other packages' warnings.

    Args:
        level: Name of the lowest level that is shown, for example ``"DEBUG"``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT, datefmt="%H:%M:%S"))
    package = logging.getLogger("ecdctr")
    package.handlers = [handler]
    package.setLevel(level)
    package.propagate = False
    root = logging.getLogger()
    if not root.handlers:
        others = logging.StreamHandler(sys.stderr)
        others.setLevel(logging.WARNING)
        others.setFormatter(handler.formatter)
        others.addFilter(_is_no_echo)
        root.addHandler(others)


def _is_no_echo(record: logging.LogRecord) -> bool:
    """False for what Py4J logs of an exception that it raises as well: stack traces that bury the message."""
    return PurePath(record.pathname).parent.name != "py4j"
