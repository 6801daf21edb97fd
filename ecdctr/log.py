"""Logging for people: one line per event on stderr, so that stdout stays free for results."""

import logging
import sys

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure(level: str = "INFO") -> None:
    """Send the package's log to stderr.

    Args:
        level: Name of the lowest level that is shown, for example ``"DEBUG"``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT, datefmt="%H:%M:%S"))
    package = logging.getLogger("ecdctr")
    package.handlers = [handler]
    package.setLevel(level)
    package.propagate = False
