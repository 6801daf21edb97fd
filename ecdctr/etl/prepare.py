"""Raw logs → impressions → vocabulary → samples, for all new and changed days at once.

A day is open until the tables reach `late_window` days beyond it. What the log says anew of an open day is taken over, with
all that depends on it; rows that come for a closed day are put aside. Ids are given for closed days alone, and so never change.

Each table's own log says, in a note beside the last commit, which preparation wrote it; a stage that was interrupted is
done again as a whole, one that was committed is not. Later stages read the tables of earlier ones, never the logs, so
that they cannot disagree.
"""

import dataclasses
import datetime as dt
import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr.config import Config
from ecdctr.etl import contract, ingest, quality, source, vocabulary
from ecdctr.etl.click_rates import mature_click_rates
from ecdctr.etl.facts import Fact
from ecdctr.etl.intake import read_intake, write_intake
from ecdctr.etl.made_with import MADE_WITH, TABLES, preparation_digest, refuse_other_preparation
from ecdctr.etl.notes import LAST, generation_of, note_of
from ecdctr.etl.preparation import Note, Plan, PrepareSummary, make_plan
from ecdctr.etl.samples import sample_columns, samples
from ecdctr.exceptions import InputError, NotReadyError, TemporaryError
from ecdctr.features.feature_set import FeatureSet, feature_set
from ecdctr.hooks import NO_HOOKS, DayEvent, HookError, Hooks, QualityEvent, QuarantineEvent, TableEvent
from ecdctr.lake.leases import exclusive
from ecdctr.lake.schema import DOMAINS
from ecdctr.lake.tables import Lake

logger = logging.getLogger(__name__)

APPLICATION = "prepare"
_DAY = dt.timedelta(days=1)


def prepare(
    spark: SparkSession | Callable[[], SparkSession], config: Config, until: dt.date | None, hooks: Hooks = NO_HOOKS
) -> PrepareSummary:
    """Bring all tables up to the day before `until`, and open days up to what the logs say by now.

    Args:
        spark: The session, or a function that gives one: where the inputs are as they were, none is needed.
        config: The configuration.
        until: First day that is left out; None: all days of the logs.
        hooks: Told of each step.

    Raises:
        InputError: Logs that do not fit the mapping, bad rows while these are not to be dropped, or days that a check
            refuses; nothing is written.
        HookError: A hook failed that is to fail its step.
        ConfigError: The tables were prepared with other features, columns or lanes.
        TemporaryError: Another preparation of this warehouse came between.
    """
    lake = Lake(spark, config.warehouse_dir)
    with exclusive(lake.root, APPLICATION):
        run = _Preparation(lake, config, hooks)
        refuse_other_preparation(lake, config)
        if run.is_done(until):
            logger.info("all days before %s are prepared already", run.done)
            return run.finish(None, run.done)
        return run.all_stages(until)


def compact_vocabulary(
    spark: SparkSession | Callable[[], SparkSession], config: Config, hooks: Hooks = NO_HOOKS
) -> PrepareSummary:
    """Begin a new generation of the vocabulary: expired tokens are dropped, ids dealt anew, all samples encoded anew.

    Models of earlier generations have other ids and do not count as published any more. A compaction that is broken
    off is gone on with by the next preparation.

    Returns:
        What was written; `tokens` are those that were dropped.

    Raises:
        NotReadyError: There is no vocabulary, or a preparation was broken off.
        ConfigError: The tables were prepared otherwise.
    """
    lake = Lake(spark, config.warehouse_dir)
    with exclusive(lake.root, APPLICATION):
        run = _Preparation(lake, config, hooks)
        refuse_other_preparation(lake, config)
        return run.new_generation()


class _Preparation:
    """One call of `prepare`."""

    def __init__(self, lake: Lake, config: Config, hooks: Hooks) -> None:
        self.lake = lake
        self.hooks = hooks
        self.config = config
        buckets = {name: rules.oov_buckets for name, rules in config.vocabularies.items()}
        self.features: FeatureSet = feature_set(config.dataset.features, buckets)
        self.inputs = source.fingerprint(config.dataset)
        self.number = 1
        self.note: str | None = None
        self.summary = PrepareSummary()

    @functools.cached_property
    def notes(self) -> dict[str, Note]:
        """What the last preparations have left in each table."""
        return {name: note for name in TABLES if (note := note_of(self.lake, name)) is not None}

    @property
    def done(self) -> dt.date | None:
        """The day after the last one that all tables are prepared for."""
        last = self.notes.get(LAST)
        return None if last is None else last.until

    @property
    def closed(self) -> dt.date | None:
        """Days before this one do not change any more: the window has left them, or ids were given by them."""
        marks = [note.closed for name in ("vocabulary", LAST) if (note := self.notes.get(name)) and note.closed]
        return max(marks, default=None)

    @functools.cached_property
    def broken_off(self) -> Note | None:
        """The note of a preparation that was begun and not completed."""
        newest = max(self.notes.values(), key=lambda note: note.number, default=None)
        completed = self.notes.get(LAST)
        return newest if newest and (completed is None or completed.number < newest.number) else None

    def is_done(self, until: dt.date | None) -> bool:
        """Whether the tables hold all that is asked for, by what their own logs say."""
        last = self.notes.get(LAST)
        if last is None or self.broken_off or self.inputs is None or last.inputs != self.inputs:
            return False
        return not last.rest or (until is not None and until <= last.until)

    def all_stages(self, until: dt.date | None) -> PrepareSummary:
        """Look through both logs, then write table after table."""
        dataset = self.config.dataset
        with self._timed("check"):
            known = read_intake(self.lake)
            found = {
                domain: ingest.look_through(self.lake.spark, dataset, domain, known.get(domain, ()))
                for domain in DOMAINS
            }
            plan = self._plan(found, known, until)
            if not dataset.drop_bad_rows:
                for log in found.values():
                    ingest.refuse_bad_rows(log, self.closed, plan.until)
        if plan.since is None and self.done is None:
            days = sorted({day for log in found.values() for day in log.days})
            raise InputError(
                f"the logs have no day before {plan.until}; they span {days[0]} to {days[-1]}",
                hint="choose a later --until",
            )
        with self._timed("quality"):
            outcomes = self._check_quality(found, plan)
        with self._timed("quarantine"):
            self._write_quarantine(found, plan, outcomes)
        if plan.since is None:
            logger.info("the logs have nothing new of the days before %s", plan.until)
            write_intake(self.lake, found.values())
            return self.finish(None, self.done)
        self._number_and_note(plan, found)
        for day in sorted({*plan.new, *plan.changed}):
            self.hooks.fire(DayEvent, day=day, rows={domain: log.rows.get(day, 0) for domain, log in found.items()})
        with self._timed("impressions"):
            put_aside = self._put_aside(outcomes)
            for domain in DOMAINS:
                aside = [day for of, day in put_aside if of == domain]
                log = found[domain].without(aside) if aside else found[domain]
                self._write_impressions(log, plan.since, plan.until, plan.as_of)
        with self._timed("vocabulary"):
            self._grow_vocabulary(plan.since, plan.until)
        for domain in DOMAINS:
            with self._timed(f"{domain}_samples"):
                self._write_samples(domain, plan.since, plan.until)
        quality.write_outcomes(self.lake, outcomes, (APPLICATION, self.number))
        write_intake(self.lake, found.values())
        self.summary.days, self.summary.changed = len(plan.new), len(plan.changed)
        return self.finish(plan.since, plan.until)

    def new_generation(self) -> PrepareSummary:
        """Deal the vocabulary's ids anew and encode all days by them."""
        last, known = self.notes.get(LAST), self.notes.get("vocabulary")
        days = sorted({day for domain in DOMAINS for day in self._days(f"{domain}_impressions")}) if last else []
        if last is None or known is None or self.broken_off or not days:
            raise NotReadyError("the tables are not prepared as a whole", hint="run ecdctr prepare first")
        self.number, generation = last.number + 1, known.generation + 1
        note = dataclasses.replace(
            last, number=self.number, since=days[0], plan=f"generation {generation}", generation=generation
        )
        self.note = note.to_json()
        with self._timed("vocabulary"):
            self.summary.tokens = vocabulary.renew(
                self.lake, self.config, self.features, last.until, (APPLICATION, self.number), self.note
            )
        for domain in DOMAINS:
            with self._timed(f"{domain}_samples"):
                self._write_samples(domain, days[0], last.until)
        logger.info("vocabulary generation %d; %s tokens dropped", generation, f"{self.summary.tokens:,}")
        return self.finish(days[0], last.until)

    def _plan(self, found: dict[str, ingest.Ingest], known: dict[str, tuple[Fact, ...]], until: dt.date | None) -> Plan:
        dataset = self.config.dataset
        ripening = {d: log.clicks.days for d in DOMAINS if (log := getattr(dataset, ingest.SOURCE_KEYS[d])).clicks}
        plan = make_plan(found, known, done=self.done, closed=self.closed, until=until, ripening=ripening)
        if plan is None:
            raise InputError(
                "the logs have no good row", hint="look into the quarantine reasons with drop_bad_rows: false"
            )
        if self.broken_off is not None:
            plan = dataclasses.replace(plan, since=min(plan.since or self.broken_off.since, self.broken_off.since))
        if plan.changed:
            logger.info("the logs say something new of %s", ", ".join(map(str, plan.changed)))
        return plan

    def _check_quality(self, found: dict[str, ingest.Ingest], plan: Plan) -> list[quality.Outcome]:
        days = sorted({*plan.new, *plan.changed})
        if not days:
            return []
        rates = mature_click_rates(self.lake, self.config, found, days, plan.until, plan.as_of)
        outcomes = quality.examine(self.lake, self.config, found, days, plan.new, rates)
        for outcome in outcomes:
            if outcome.outcome not in ("ok", "no_history"):
                logger.warning("%s", outcome)
        try:
            quality.refuse(found, outcomes)
            self.hooks.fire(QualityEvent, outcomes=tuple(dataclasses.asdict(outcome) for outcome in outcomes))
        except (InputError, HookError):
            # The history shows what was refused; a scheduler that tries again and again adds nothing.
            quality.write_outcomes(self.lake, quality.unsaid(self.lake, outcomes))
            raise
        return outcomes

    def _put_aside(self, outcomes: list[quality.Outcome]) -> list[tuple[str, dt.date]]:
        """Domain and day of what a check has put aside, now or before: the latter is not judged again, yet may be written again."""
        judged = {(outcome.domain, outcome.event_date) for outcome in outcomes}
        before = [o for o in quality.newest(quality.read_outcomes(self.lake)) if (o.domain, o.event_date) not in judged]
        return [(domain, day) for domain, day, _ in quality.put_aside([*before, *outcomes])]

    def _number_and_note(self, plan: Plan, found: dict[str, ingest.Ingest]) -> None:
        """Go on with a preparation that was broken off, if it is this one; else take the next number."""
        assert plan.since is not None
        digest = plan.digest(found.values())
        newest = max((note.number for note in self.notes.values()), default=0)
        goes_on = self.broken_off is not None and self.broken_off.plan == digest
        self.number = newest if goes_on else newest + 1
        closed = plan.until - self.config.dataset.late_window * _DAY
        if self.closed is not None:
            closed = max(closed, self.closed)
        note = Note(
            self.number, plan.since, plan.until, closed, digest, self.inputs, plan.rest, generation_of(self.lake)
        )
        self.note = note.to_json()

    def finish(self, since: dt.date | None, until: dt.date | None) -> PrepareSummary:
        """Complete the summary."""
        self.summary.since, self.summary.until = since, until
        versions = {name: self.lake.version(name) for name in TABLES}
        self.summary.versions = {name: version for name, version in versions.items() if version is not None}
        return self.summary

    def _write_impressions(self, found: ingest.Ingest, since: dt.date, until: dt.date, as_of: dt.date) -> None:
        name = f"{found.domain}_impressions"
        dataset, domain = self.config.dataset, found.domain
        properties = {MADE_WITH: preparation_digest(self.config)} | contract.constraints(dataset, domain)
        self.lake.create(name, ingest.extra_columns(dataset, domain), properties)
        key = ingest.SOURCE_KEYS[found.domain]
        log = getattr(self.config.dataset, key)
        before = self.notes.get(name)
        if before is not None and self.closed is not None:
            since = max(since, min(self.closed, before.until))
        if since >= until:
            return
        earlier = ingest.earlier_events(self.lake, dataset, domain, since)
        with source.reading(f"dataset.{key}", log.path):
            rows = ingest.by_day(found, ingest.clean_impressions(found, dataset, since, until, earlier, as_of))
            gone = [day for day in self._days(name) if since <= day < until and day not in found.days]
            if gone:
                logger.warning("%s: the log has no rows of %s any more; they stay", name, ", ".join(map(str, gone)))
                rows = rows.unionByName(self.lake.read(name).where(F.col("event_date").isin(gone)))
            self._replace(name, rows, since, until, ())
        kept = self.lake.pin(name, since, until).rows
        given = sum(count for day, count in found.rows.items() if since <= day < until)
        if kept < given:
            logger.info("%s: %s duplicates and immature labels left out", name, f"{given - kept:,}")

    def _days(self, name: str) -> list[dt.date]:
        return sorted({file.event_date for file in self.lake.snapshot(name).files if file.event_date})

    def _write_quarantine(self, found: dict[str, ingest.Ingest], plan: Plan, outcomes: list[quality.Outcome]) -> None:
        frames = [ingest.rows_of_day(found[domain], day, reason) for domain, day, reason in quality.put_aside(outcomes)]
        for domain, days in plan.late.items():
            known = self.lake.read(f"{domain}_impressions")
            frames.append(ingest.late_rows(found[domain], days, known))
        if self.config.dataset.drop_bad_rows:
            bad = [log for log in found.values() if log.bad_in(self.closed, plan.until) or log.fresh_bad(plan.until)]
            frames += [ingest.quarantined(log, self.closed, plan.until) for log in bad]
        if not frames:
            return
        self.lake.create("quarantine")
        rows = functools.reduce(DataFrame.unionByName, frames)
        rows = rows.join(self.lake.read("quarantine").select("row_id"), "row_id", "left_anti").persist()
        try:
            reasons = {row["reason"]: row["count"] for row in rows.groupBy("reason").count().collect()}
            if not reasons:
                return
            self.lake.append("quarantine", rows)
        finally:
            rows.unpersist()
        self.summary.quarantined = sum(reasons.values())
        logger.warning("%s rows are put aside in the table quarantine", f"{self.summary.quarantined:,}")
        self.hooks.fire(QuarantineEvent, rows=self.summary.quarantined, reasons=reasons)

    def _grow_vocabulary(self, since: dt.date, until: dt.date) -> None:
        window = self.config.dataset.late_window * _DAY
        last = self.notes.get(LAST)
        counted = since if last is None or last.closed is None else last.closed
        before = self.lake.version("vocabulary")
        self.summary.tokens = vocabulary.grow(
            self.lake, self.config, self.features, counted, until - window, (APPLICATION, self.number), self.note
        )
        version = self.lake.version("vocabulary")
        if self.summary.tokens and version is not None and version != before:
            inputs = tuple(f"{domain}_impressions" for domain in DOMAINS)
            self.hooks.fire(
                TableEvent, job="prepare", table="vocabulary", version=version, rows=self.summary.tokens, inputs=inputs
            )

    def _write_samples(self, domain: str, since: dt.date, until: dt.date) -> None:
        name = f"{domain}_samples"
        self.lake.create(name, sample_columns(self.features), {MADE_WITH: preparation_digest(self.config)})
        rows = samples(self.lake, self.config, self.features, domain, since, until)
        inputs = (f"{domain}_impressions", *(f"{d}_impressions" for d in DOMAINS if d != domain), "vocabulary")
        self._replace(name, rows, since, until, inputs)
        self.summary.rows[domain] = self.lake.pin(name, since, until).rows

    def _replace(self, name: str, frame: DataFrame, since: dt.date, until: dt.date, inputs: tuple[str, ...]) -> None:
        before, txn = self.lake.version(name), (APPLICATION, self.number)
        try:
            version = self.lake.replace_days(name, frame, since, until, txn=txn, note=self.note)
        except (PySparkException, Py4JError) as error:
            if "Concurrent" not in str(error):
                raise
            raise TemporaryError(f"{name}: another preparation wrote it first", hint="run the command again") from error
        if self.hooks and version != before:
            rows = self.lake.pin(name, since, until).rows
            self.hooks.fire(
                TableEvent,
                job="prepare",
                table=name,
                version=version,
                rows=rows,
                inputs=inputs,
                since=since,
                until=until,
            )

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.summary.seconds[stage] = round(time.perf_counter() - started, 3)
        logger.info("%s: %.1f s", stage, self.summary.seconds[stage])
