"""When a level is due, told from its own versions alone: no level waits for another."""

import datetime as dt
from collections.abc import Collection

DAY = dt.timedelta(days=1)
EPOCH = dt.date(1970, 1, 1)


def is_due(date: dt.date, every: int, done: Collection[dt.date]) -> bool:
    """Whether a version must be made at `date`: none is there that is younger than `every` days."""
    return not any(date - every * DAY < earlier <= date for earlier in done)


def snapshot_dates(
    date: dt.date, every: int, count: int, done: Collection[dt.date], first_day: dt.date
) -> list[dt.date]:
    """Dates of the TPM snapshots that are due at `date`, oldest first.

    Where no snapshot exists, the `count - 1` earlier ones are made as well, as far as the log reaches: a consumer
    looks up several months, and a row of an early day only those that ended by then.
    """
    if not is_due(date, every, done):
        return []
    dates = [date]
    if not any(earlier < date for earlier in done):
        dates = [date - step * every * DAY for step in range(count - 1, -1, -1)]
    return [day for day in dates if day > first_day]


def days(since: dt.date, until: dt.date) -> list[dt.date]:
    """All days of the half-open window."""
    return [since + step * DAY for step in range((until - since).days)]


def day_number(date: dt.date) -> int:
    """Days since 1970-01-01."""
    return (date - EPOCH).days
