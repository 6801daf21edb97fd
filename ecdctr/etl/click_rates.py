"""Click rates of days whose labels come from a log of clicks: known when the last impression's window has ended."""

import datetime as dt
from collections.abc import Mapping, Sequence

from pyspark.sql import functions as F

from ecdctr.config import Config
from ecdctr.etl.ingest import SOURCE_KEYS, Ingest, clean_impressions, earlier_events
from ecdctr.etl.source import reading
from ecdctr.lake.tables import Lake

_DAY = 24 * 3600


def mature_days(days: Sequence[dt.date], until: dt.date, window: int) -> list[dt.date]:
    """Those days of which every impression has a label when `until` begins.

    Args:
        days: Days before `until`.
        until: The logical date: nothing at or after it is known.
        window: Seconds that a click may come after its impression.
    """
    return [day for day in days if ((until - day).days - 1) * _DAY >= window]


def mature_click_rates(
    lake: Lake, config: Config, found: Mapping[str, Ingest], days: Sequence[dt.date], until: dt.date, as_of: dt.date
) -> dict[str, dict[dt.date, float]]:
    """Click rates by domain and day, of the days to write that are mature; one pass over a log and its clicks.

    A day is written anew for as long as it is open, which is at least until it is mature: so none is missed.

    Args:
        lake: The tables.
        config: The configuration.
        found: The logs.
        days: Days to write, ascending.
        until: The day after the last prepared one.
        as_of: Clicks on this day or later are not known.

    Returns:
        Nothing of domains whose rows bring their labels along.

    Raises:
        InputError: The log of clicks does not fit the mapping.
    """
    rates: dict[str, dict[dt.date, float]] = {}
    for domain, log in found.items():
        key = SOURCE_KEYS[domain]
        logged = getattr(config.dataset, key)
        if logged.clicks is None or config.quality.click_rate.policy == "off":
            continue
        mature = mature_days([day for day in days if day in log.days], as_of, logged.clicks.window)
        if not mature:
            continue
        with reading(f"dataset.{key}", logged.path):
            earlier = earlier_events(lake, config.dataset, domain, days[0])
            rows = clean_impressions(log, config.dataset, days[0], until, earlier, as_of)
            by_day = (
                rows.where(F.col("event_date").isin(mature)).groupBy("event_date").agg(F.avg("label").alias("rate"))
            )
            rates[domain] = {row["event_date"]: row["rate"] for row in by_day.collect()}
    return rates
