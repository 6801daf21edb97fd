"""Raw logs → impressions → vocabulary → samples, for all new days at once.

Each table remembers, in its own transaction log, up to which day it was prepared; a stage that was interrupted is done
again as a whole, one that was committed is not. Later stages read the tables of earlier ones, never the logs, so that
they cannot disagree.
"""

import datetime as dt
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr.config import Config
from ecdctr.etl import ingest, source, vocabulary
from ecdctr.etl.samples import sample_columns, samples
from ecdctr.exceptions import ConfigError, InputError
from ecdctr.features.feature_set import FeatureSet, feature_set
from ecdctr.lake.schema import DOMAINS
from ecdctr.lake.tables import Lake

logger = logging.getLogger(__name__)

APPLICATION = "prepare"
MADE_WITH = "ecdctr.preparation"
TABLES = (*(f"{d}_impressions" for d in DOMAINS), "quarantine", "vocabulary", *(f"{d}_samples" for d in DOMAINS))
_DAY = dt.timedelta(days=1)
_EPOCH = dt.date(1970, 1, 1)


@dataclass
class PrepareSummary:
    """What a preparation did.

    Attributes:
        since: First new day; None where nothing was new.
        until: The day after the last one that is prepared now.
        days: New days.
        rows: New samples by domain.
        quarantined: Rows put aside.
        tokens: Tokens admitted to vocabularies.
        versions: Version of each table now.
        seconds: Time of each stage.
    """

    since: dt.date | None = None
    until: dt.date | None = None
    days: int = 0
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DOMAINS, 0))
    quarantined: int = 0
    tokens: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def prepared_until(lake: Lake, table: str = "ad_samples") -> dt.date | None:
    """The day after the last one that a table was prepared for; by default of the table that is written last."""
    number = lake.transaction(table, APPLICATION)
    return None if number is None else _EPOCH + number * _DAY


def prepare(spark: SparkSession | Callable[[], SparkSession], config: Config, until: dt.date | None) -> PrepareSummary:
    """Bring all tables up to the day before `until`.

    Args:
        spark: The session, or a function that gives one: where the inputs are as they were, none is needed.
        config: The configuration.
        until: First day that is left out; None: all days of the logs.

    Raises:
        InputError: Logs that do not fit the mapping, or bad rows while these are not to be dropped; nothing is written.
        ConfigError: The tables were prepared with other features, columns or lanes.
    """
    run = _Preparation(Lake(spark, config.warehouse_dir), config)
    run.refuse_other_preparation()
    done = prepared_until(run.lake)
    unchanged = run.inputs is not None and run.lake.note("ad_samples") == run.inputs
    if done is not None and ((until is None and unchanged) or (until is not None and until <= done)):
        logger.info("all days before %s are prepared already", done)
        return run.finish(None, done)
    return run.all_stages(until)


class _Preparation:
    """One call of `prepare`."""

    def __init__(self, lake: Lake, config: Config) -> None:
        self.lake = lake
        self.config = config
        buckets = {name: rules.oov_buckets for name, rules in config.vocabularies.items()}
        self.features: FeatureSet = feature_set(config.dataset, buckets)
        self.inputs = source.fingerprint(config.dataset)
        self.note: str | None = None
        self.summary = PrepareSummary()

    def refuse_other_preparation(self) -> None:
        """Samples of two feature contracts in one table would be unreadable for every model.

        Raises:
            ConfigError: The tables were prepared otherwise.
        """
        for name in TABLES:
            if not self.lake.exists(name):
                continue
            found = self.lake.snapshot(name).properties.get(MADE_WITH)
            if found is not None and found != self.digest():
                raise ConfigError(
                    f"{self.lake.path(name)} was prepared with other features, columns, vocabulary rules or lanes",
                    hint="choose another name for this configuration, or remove the warehouse folder to start over",
                )

    def digest(self) -> str:
        """SHA-256 of all settings that decide what a prepared row looks like."""
        tree = self.config.model_dump(mode="json", include={"dataset", "vocabularies", "lanes"})
        for name in ("description", "simulator"):
            tree["dataset"].pop(name)
        for key in ("natural", "ads"):
            for part in (tree["dataset"][key], *tree["dataset"][key]["side_tables"]):
                part.pop("path")
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()

    def all_stages(self, until: dt.date | None) -> PrepareSummary:
        """Look through both logs, then write table after table."""
        done = prepared_until(self.lake)
        with self._timed("check"):
            found = {domain: ingest.look_through(self.lake.spark, self.config.dataset, domain) for domain in DOMAINS}
            days = sorted({day for log in found.values() for day in log.rows})
            end = until or (days[-1] + _DAY if days else None)
            new = [day for day in days if (done is None or day >= done) and end is not None and day < end]
            if not self.config.dataset.drop_bad_rows:
                for log in found.values():
                    ingest.refuse_bad_rows(log, done, end or dt.date.max)
        if end is None or (not days and done is None):
            raise InputError(
                "the logs have no good row", hint="look into the quarantine reasons with drop_bad_rows: false"
            )
        if not new and done is None:
            raise InputError(
                f"the logs have no day before {end}; they span {days[0]} to {days[-1]}", hint="choose a later --until"
            )
        if not new:
            logger.info("the logs have no day from %s to %s", done, end - _DAY)
            return self.finish(None, done)
        self.note = self.inputs if end > days[-1] else None
        with self._timed("impressions"):
            for domain in DOMAINS:
                self._write_impressions(found[domain], new[0], end)
        if self.config.dataset.drop_bad_rows:
            with self._timed("quarantine"):
                self._write_quarantine(found, done, end)
        with self._timed("vocabulary"):
            self._grow_vocabulary(new[0], end)
        for domain in DOMAINS:
            with self._timed(f"{domain}_samples"):
                self._write_samples(domain, new[0], end)
        self.summary.days = len(new)
        return self.finish(new[0], end)

    def finish(self, since: dt.date | None, until: dt.date | None) -> PrepareSummary:
        """Complete the summary."""
        self.summary.since, self.summary.until = since, until
        versions = {name: self.lake.version(name) for name in TABLES}
        self.summary.versions = {name: version for name, version in versions.items() if version is not None}
        return self.summary

    def _write_impressions(self, found: ingest.Ingest, since: dt.date, until: dt.date) -> None:
        name = f"{found.domain}_impressions"
        self.lake.create(name, ingest.extra_columns(self.config.dataset), {MADE_WITH: self.digest()})
        key = ingest.SOURCE_KEYS[found.domain]
        log = getattr(self.config.dataset, key)
        columns = self.config.dataset.columns_of(log)
        earlier = None
        # Where the time is part of the identity, an event of another day is another event.
        if columns.time.column not in columns.identity() and prepared_until(self.lake, name) is not None:
            earlier = self.lake.read(name).where(F.col("event_date") < F.lit(since))
        with source.reading(f"dataset.{key}", log.path):
            self._replace(name, ingest.impressions(found, since, until, earlier), since, until)
        kept = self.lake.pin(name, since, until).rows
        given = sum(count for day, count in found.rows.items() if since <= day < until)
        if kept < given:
            logger.info("%s: %s duplicates left out", name, f"{given - kept:,}")

    def _write_quarantine(self, found: dict[str, ingest.Ingest], since: dt.date | None, until: dt.date) -> None:
        self.lake.create("quarantine")
        bad = [log for log in found.values() if log.bad_in(since, until)]
        if not bad:
            return
        before = self.lake.snapshot("quarantine").rows
        rows = ingest.quarantined(bad[0], since, until)
        for log in bad[1:]:
            rows = rows.unionByName(ingest.quarantined(log, since, until))
        rows = rows.join(self.lake.read("quarantine").select("row_id"), "row_id", "left_anti")
        self.lake.append("quarantine", rows)
        self.summary.quarantined = self.lake.snapshot("quarantine").rows - before
        logger.warning("%s bad rows are put aside in the table quarantine", f"{self.summary.quarantined:,}")

    def _grow_vocabulary(self, since: dt.date, until: dt.date) -> None:
        self.summary.tokens = vocabulary.grow(self.lake, self.config, self.features, since, until)

    def _write_samples(self, domain: str, since: dt.date, until: dt.date) -> None:
        name = f"{domain}_samples"
        self.lake.create(name, sample_columns(self.features), {MADE_WITH: self.digest()})
        self._replace(name, samples(self.lake, self.config, self.features, domain, since, until), since, until)
        self.summary.rows[domain] = self.lake.pin(name, since, until).rows

    def _replace(self, name: str, frame: DataFrame, since: dt.date, until: dt.date) -> None:
        txn = (APPLICATION, (until - _EPOCH).days)
        self.lake.replace_days(name, frame, since, until, txn=txn, note=self.note)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.summary.seconds[stage] = round(time.perf_counter() - started, 3)
        logger.info("%s: %.1f s", stage, self.summary.seconds[stage])
