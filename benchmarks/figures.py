"""Figures of several runs as the pages write them."""

import statistics
from collections.abc import Iterable


def spread(values: Iterable[float], form: str, none: str = "-") -> str:
    """The median, and the range where there are several values; `none` where there is no value."""
    found = sorted(values)
    if not found:
        return none
    middle = form.format(statistics.median(found))
    return middle if len(found) == 1 else f"{middle} ({form.format(found[0])}–{form.format(found[-1])})"
