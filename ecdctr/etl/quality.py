"""Checks of the days to prepare against the days before them; each figure is kept in the table `data_quality`.

All but the shares of new ids, and click rates where clicks are joined, comes from what `look_through` has counted anyway, over the
good rows of the log.
"""

import dataclasses
import datetime as dt
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from ecdctr.config import Config
from ecdctr.config.operations import CheckConfig
from ecdctr.etl.ingest import SOURCE_KEYS, Ingest
from ecdctr.etl.new_ids import new_id_shares
from ecdctr.etl.source import KEYS_SHOWN
from ecdctr.exceptions import InputError
from ecdctr.lake.frames import local_frame
from ecdctr.lake.schema import DOMAINS
from ecdctr.lake.tables import Lake

logger = logging.getLogger(__name__)

TABLE = "data_quality"
RELATIVE = ("volume", "click_rate")
_DAY = dt.timedelta(days=1)

Key = tuple[str, str, str]
"""Domain, check, subject: the column of a null rate, the entity of new ids, else empty."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One check of one day.

    Attributes:
        domain: natural or ad.
        event_date: The day.
        check: volume, click_rate, null_rate or new_ids.
        subject: What of the day, where there are several.
        value: The figure.
        expected: Mean of the trailing days; None where they are too few.
        days: How many trailing days there are.
        outcome: ok, no_history, or the policy that was applied.
    """

    domain: str
    event_date: dt.date
    check: str
    subject: str
    value: float
    expected: float | None
    days: int
    outcome: str

    def __str__(self) -> str:
        subject = f" of {self.subject}" if self.subject else ""
        return (
            f"{self.domain} {self.event_date}: {self.check}{subject} is {self.value:.4g}, "
            f"{self.expected:.4g} on average over the {self.days} days before"
        )


def figures(found: Ingest) -> dict[dt.date, dict[tuple[str, str], float]]:
    """For each day of a log its volume, click rate and null rates, by check and subject."""
    rows: dict[dt.date, int] = {}
    clicks: dict[dt.date, int] = {}
    nulls: dict[dt.date, dict[str, int]] = {}
    for fact in found.facts:
        day = fact.event_date
        if fact.reason is not None or day is None:
            continue
        rows[day] = rows.get(day, 0) + fact.rows
        clicks[day] = clicks.get(day, 0) + fact.clicks
        of_day = nulls.setdefault(day, {})
        for name, count in fact.nulls.items():
            of_day[name] = of_day.get(name, 0) + count
    columns = sorted({name for of_day in nulls.values() for name in of_day} - {"label"})
    unlabelled = {day for day, of_day in nulls.items() if of_day.get("label")}
    out = {}
    for day, count in rows.items():
        if count <= 0:
            continue
        out[day] = {("volume", ""): float(count)} | {
            ("null_rate", name): nulls[day].get(name, 0) / count for name in columns
        }
        if day not in unlabelled:
            out[day]["click_rate", ""] = clicks[day] / count
    return out


def judge(
    domain: str,
    config: Config,
    measured: Mapping[dt.date, Mapping[tuple[str, str], float]],
    earlier: Mapping[Key, Mapping[dt.date, float]],
    days: Iterable[dt.date],
) -> list[Outcome]:
    """Compare days with the days before them.

    Args:
        domain: natural or ad.
        config: The configuration.
        measured: Figures by day, of the days to judge and of others that the log still has.
        earlier: Figures of earlier preparations, by key and day.
        days: The days to judge.
    """
    settings = config.quality
    outcomes = []
    for day in sorted(days):
        span = [day - place * _DAY for place in range(1, settings.trailing + 1)]
        for (check, subject), value in sorted(measured.get(day, {}).items()):
            rule: CheckConfig = getattr(settings, check)
            if rule.policy == "off":
                continue
            history = earlier.get((domain, check, subject), {})
            before = [
                known
                for other in span
                if (known := measured.get(other, {}).get((check, subject), history.get(other))) is not None
            ]
            if len(before) < settings.least_days:
                outcomes.append(Outcome(domain, day, check, subject, value, None, len(before), "no_history"))
                continue
            mean = fmean(before)
            distance = abs(value - mean)
            if check in RELATIVE:
                distance = distance / mean if mean > 0 else float(value > 0)
            outcome = rule.policy if distance > rule.tolerance else "ok"
            outcomes.append(Outcome(domain, day, check, subject, value, mean, len(before), outcome))
    return outcomes


def examine(
    lake: Lake,
    config: Config,
    found: Mapping[str, Ingest],
    days: Sequence[dt.date],
    new: Sequence[dt.date],
    rates: Mapping[str, Mapping[dt.date, float]],
) -> list[Outcome]:
    """Judge the days to write, in all domains.

    Args:
        lake: The tables.
        config: The configuration.
        found: The logs.
        days: Days to judge.
        new: Those of them that no table has yet.
        rates: By domain and day, click rates that the logs alone do not tell.
    """
    earlier: dict[Key, dict[dt.date, float]] = {}
    known = newest(read_outcomes(lake))
    refused = {(row.domain, row.event_date) for row in known if row.outcome == "fail"}
    for row in known:
        # What was refused never became a day that others are compared with.
        if (row.domain, row.event_date) not in refused:
            earlier.setdefault((row.domain, row.check, row.subject), {})[row.event_date] = row.value
    shares = {} if config.quality.new_ids.policy == "off" else new_id_shares(lake, config, found, new)
    outcomes = []
    for domain in DOMAINS:
        measured = figures(found[domain])
        for (of, day, subject), share in shares.items():
            if of == domain:
                measured[day]["new_ids", subject] = share
        for day, rate in rates.get(domain, {}).items():
            measured[day]["click_rate", ""] = rate
        # A day without any row is the plainest drop of volume.
        for day in days:
            measured.setdefault(day, {("volume", ""): 0.0})
        outcomes += judge(domain, config, measured, earlier, days)
    return outcomes


def refuse(found: Mapping[str, Ingest], outcomes: Iterable[Outcome]) -> None:
    """Fail for days that a check with the policy `fail` found out of bounds, naming figures and some rows.

    Raises:
        InputError: There is one.
    """
    failed = [outcome for outcome in outcomes if outcome.outcome == "fail"]
    if not failed:
        return
    first = failed[0]
    log = found[first.domain]
    rows = log.frame.where(F.col("_reason").isNull() & (F.col("event_date") == F.lit(first.event_date)))
    if first.check == "null_rate":
        rows = rows.where(F.col(first.subject).isNull())
    keys = [row["event_id"] for row in rows.select("event_id").limit(KEYS_SHOWN).collect()]
    shown = f"; rows of that day: {', '.join(keys)}" if keys else ""
    raise InputError(
        f"dataset.{SOURCE_KEYS[first.domain]}: " + "; ".join(map(str, failed[:KEYS_SHOWN])) + shown,
        hint=f"mend the log, or change quality.{first.check}; no row was written, data_quality has the figures",
    )


def read_outcomes(lake: Lake) -> list[Outcome]:
    """All outcomes so far, oldest first; read without Spark."""
    if not lake.exists(TABLE):
        return []
    tables = [pq.ParquetFile(file.path).read() for file in lake.pin(TABLE).files]
    rows = pa.concat_tables(tables).to_pylist() if tables else []
    return [Outcome(**{k: v for k, v in row.items() if k != "checked_at"}) for row in sorted(rows, key=_when)]


def newest(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The last outcome of each check of each day, by day: a day that was looked at anew has been checked anew."""
    found = {(one.event_date, one.domain, one.check, one.subject): one for one in outcomes}
    return [found[key] for key in sorted(found)]


def unsaid(lake: Lake, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Those that the table does not have as its newest word already."""
    said = set(newest(read_outcomes(lake)))
    return [outcome for outcome in outcomes if outcome not in said]


def _when(row: dict[str, Any]) -> Any:
    return row["checked_at"]


def write_outcomes(lake: Lake, outcomes: Sequence[Outcome], txn: tuple[str, int] | None = None) -> None:
    """Add outcomes to the table's history; those of a preparation that writes rows go by its transaction."""
    lake.create(TABLE)
    now = dt.datetime.now(dt.UTC)
    rows = [dataclasses.asdict(outcome) | {"checked_at": now} for outcome in outcomes]
    if rows:
        schema = StructType.fromJson(lake.snapshot(TABLE).schema)
        lake.append(TABLE, local_frame(lake.spark, rows, schema).coalesce(1), txn)


def put_aside(outcomes: Iterable[Outcome]) -> Iterator[tuple[str, dt.date, str]]:
    """Domain, day and reason of the days that a check with the policy `quarantine` found out of bounds."""
    reasons: dict[tuple[str, dt.date], list[str]] = {}
    for outcome in outcomes:
        if outcome.outcome == "quarantine":
            reasons.setdefault((outcome.domain, outcome.event_date), []).append(outcome.check)
    for (domain, day), checks in sorted(reasons.items()):
        yield domain, day, f"quality: {', '.join(dict.fromkeys(checks))}"
