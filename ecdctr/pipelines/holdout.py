"""Ad rows that A-CTR never trains on: what it forgets of earlier days is measured on them."""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

from ecdctr.config.schema import HoldoutConfig
from ecdctr.exceptions import InputError
from ecdctr.lake.delta_log import PinnedFile
from ecdctr.pipelines.clock import DAY

FORGETTING_DAYS = 3
"""Days before a walk of which rows are held out where nobody says."""


def holdout_before(since: dt.date, days: int, first_day: dt.date) -> HoldoutConfig | None:
    """The days of which rows are held out: the last `days` before a walk, as far as the log reaches.

    Args:
        since: First walked day.
        days: How many; 0: none.
        first_day: First day of the ad log.
    """
    start = max(first_day, since - days * DAY)
    return HoldoutConfig(since=start, until=since) if days and start < since else None


def holdout_of_walk(
    configured: HoldoutConfig | None, since: dt.date, days: int | None, first_day: dt.date
) -> HoldoutConfig | None:
    """The days of which a walk's rows are held out.

    Args:
        configured: `holdout` of the configuration.
        since: First walked day.
        days: How many days before the walk were asked for, 0: none; None: as configured, else `FORGETTING_DAYS`.
        first_day: First day of the ad log.

    Raises:
        InputError: What was asked for is not what is configured, or the days reach into the walk.
    """
    found = holdout_before(since, FORGETTING_DAYS if days is None else days, first_day)
    if configured is None or days == 0:
        return found
    if days is not None and found != configured:
        raise InputError(
            f"--forgetting-days {days} holds out rows of {_told(found)}, holdout of the configuration those of {_told(configured)}",
            hint="leave out one of the two; --forgetting-days 0 holds out none",
        )
    if configured.until > since:
        raise InputError(
            f"holdout of the configuration holds out rows of {_told(configured)}, expected days before the walk, which begins on {since}",
            hint=f"set holdout.until to {since} or before, walk from a later day (--from), or hold out none (--forgetting-days 0)",
        )
    return configured


def held_out(files: Iterable[PinnedFile], holdout: HoldoutConfig | None) -> set[str]:
    """Paths of the held-out files: the first lane of each day of the holdout.

    Samples are dealt to a day's lanes by a hash of the event, so one lane is a random share of the day, the same for all
    arms and seeds, and leaving it out needs no look at a row. A day of a single file is not held out: it would be
    missing altogether.
    """
    if holdout is None:
        return set()
    by_day: dict[dt.date, list[str]] = {}
    for file in files:
        if file.event_date is not None and holdout.since <= file.event_date < holdout.until:
            by_day.setdefault(file.event_date, []).append(file.path)
    return {min(paths, key=lambda path: Path(path).name) for paths in by_day.values() if len(paths) > 1}


def _told(holdout: HoldoutConfig | None) -> str:
    return "no day" if holdout is None else f"{holdout.since} … {holdout.until - DAY}"
