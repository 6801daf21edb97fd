"""Lengths of time written as people write them: ``30d``, ``4w``, ``1h``."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

_UNITS = {"d": 1, "w": 7}


def parse_days(value: object) -> object:
    """Turn ``"30d"``, ``"2w"`` or a whole number into days.

    Args:
        value: Text or number from the configuration.

    Returns:
        The number of days; anything that is no text is handed on for pydantic to judge.

    Raises:
        ValueError: Text that is not a whole number followed by ``d`` or ``w``.
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+)\s*([dw])\s*", value)
    if not found:
        raise ValueError(f"{value!r} is not a length of time in days; write for example '30d' or '4w'")
    return int(found[1]) * _UNITS[found[2]]


def parse_seconds(value: object) -> object:
    """Turn ``"90s"``, ``"30m"``, ``"1h"`` or ``"2d"`` into seconds; a number is seconds already.

    Raises:
        ValueError: Text of another form.
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+)\s*([smhd])\s*", value)
    if not found:
        raise ValueError(f"{value!r} is not a length of time; write for example '30m', '1h' or '2d'")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]


Days = Annotated[int, BeforeValidator(parse_days), Field(ge=1)]
"""A length of time in whole days, at least one."""
DaysOrZero = Annotated[int, BeforeValidator(parse_days), Field(ge=0)]
"""A length of time in whole days; 0 where there is to be none."""
Seconds = Annotated[int, BeforeValidator(parse_seconds), Field(ge=1)]
"""A length of time in seconds, at least one."""
