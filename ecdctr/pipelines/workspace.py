"""What every job works with: the tables, the ledger, the store, and ranks that stay warm between levels."""

import datetime as dt
import hashlib
import json
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ecdctr import cores
from ecdctr.artifacts.leftovers import ARTIFACTS, SESSIONS, STAGING
from ecdctr.artifacts.store import ArtifactStore
from ecdctr.config import Config
from ecdctr.distributed.launch import RankSession
from ecdctr.distributed.spark_slots import is_local
from ecdctr.etl.expiry import ExpiredTokens, write_expired
from ecdctr.etl.notes import generation_of, prepared_until
from ecdctr.etl.vocabulary import HighWaterMarks, high_water_marks
from ecdctr.exceptions import AlreadyDone, InputError, NotReadyError, TemporaryError
from ecdctr.features.feature_set import FeatureSet, feature_set
from ecdctr.hooks import FailureEvent, Hook, Hooks
from ecdctr.lake.leases import Lease
from ecdctr.lake.ledger import Ledger, LedgerEntry
from ecdctr.lake.session import SUBMITTED, spark_session, with_delta
from ecdctr.lake.tables import Lake, PinnedFiles
from ecdctr.pipelines.progress import ProgressView

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger(__name__)


class Workspace:
    """Opened once per command; closes the ranks it has started.

    Args:
        config: The configuration.
        spark: A session to use (notebooks), whose time zone is set to UTC; by default one is made or the active one is taken.
        hooks: Further hooks, made in Python; they are called after the configured ones.
    """

    def __init__(self, config: Config, spark: "SparkSession | None" = None, hooks: Sequence[Hook] = ()) -> None:
        self.config = config
        self.hooks = Hooks(config.hooks, hooks, config.name, config.warehouse_dir.absolute())
        self._given = spark
        self._ranks: RankSession | None = None
        self._pins: dict[str, PinnedFiles] = {}
        self._marks: HighWaterMarks | None = None
        self._generation: int | None = None
        self._expired: dict[dt.date, ExpiredTokens] = {}
        self.startup: dict[str, float] = {}
        self.opening: dict[str, float] = {}
        self.publishing = threading.Lock()
        """Held while versions are published: Delta's writers come one after the other."""
        self._first: Workspace | None = None
        self._place = ""
        self._stopping = False

    @cached_property
    def spark(self) -> "SparkSession":
        """The Spark session; raises ConfigError where it lacks Delta."""
        if self._first is not None:
            return self._first.spark
        if self._given is not None:
            return with_delta(self._given)
        return spark_session(self.config.spark, f"ecdctr {self.config.name}")

    @cached_property
    def progress(self) -> ProgressView:
        """Bars on a terminal."""
        return ProgressView()

    @cached_property
    def root(self) -> Path:
        """The warehouse folder, absolute, since ranks may run in another working directory."""
        return self.config.warehouse_dir.absolute()

    @cached_property
    def staging(self) -> Path:
        """Where the ranks lay scores until they are published: a folder that no other command takes away."""
        if self._first is not None:
            return self._first.staging
        return self.root / STAGING / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"

    @cached_property
    def lake(self) -> Lake:
        """The Delta tables."""
        return Lake(lambda: self.spark, self.root)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of published versions."""
        return Ledger(self.lake)

    @cached_property
    def store(self) -> ArtifactStore:
        """The files of published versions."""
        store = ArtifactStore(self.root / ARTIFACTS)
        store.clean()
        return store

    @cached_property
    def lease(self) -> Lease:
        """What this command reads, for clean-up to honour."""
        return Lease(self.root)

    @cached_property
    def all_features(self) -> FeatureSet:
        """The sample contract."""
        dataset = self.config.dataset
        buckets = {name: rules.oov_buckets for name, rules in self.config.vocabularies.items()}
        return feature_set(dataset.features, buckets)

    @cached_property
    def features(self) -> FeatureSet:
        """What of the samples every arm but `minet` reads."""
        return self.all_features.without(self.config.dataset.read_by_minet())

    def pinned(self, table: str) -> PinnedFiles:
        """The exact files of the newest version of a samples table, pinned for the length of the command.

        Raises:
            TemporaryError: The vocabulary was dealt anew since this command first read a table.
        """
        if table not in self._pins:
            with self._one_generation(table):
                pinned = self.lake.pin(table)
            self._pins[table] = pinned
            self.lease.pin(table, pinned.version)
        self.lease.renew()
        return self._pins[table]

    def generation(self) -> int:
        """The generation of the vocabulary that the pinned samples go by."""
        if self._generation is None:
            self._generation = generation_of(self.lake)
        return self._generation

    @contextmanager
    def _one_generation(self, table: str = "vocabulary") -> Iterator[None]:
        """Hold what is read of a table to the generation of all that was read before: ids of two must never meet in one model."""
        self._hold_generation(table)
        yield
        # A compaction may have come between.
        self._hold_generation(table)

    def _hold_generation(self, table: str) -> None:
        found = generation_of(self.lake, table)
        if self._generation is None:
            self._generation = found
        if found != self._generation:
            raise TemporaryError(
                f"{table} is of vocabulary generation {found} by now; this command has begun with {self._generation}",
                hint="call again",
            )

    def refuse_unprepared(self, date: dt.date) -> None:
        """Refuse to train for a day while rows before it are missing: later versions go on from there, and would leave them out.

        Raises:
            NotReadyError: The tables are not prepared up to the day.
        """
        until = prepared_until(self.lake)
        if until is not None and until < date:
            raise NotReadyError(
                f"the tables hold the days before {until}; a version of {date} is to know all days before it",
                hint=f"ecdctr prepare --until {date} once the logs have come, or an earlier day",
            )

    def model_digest(self, level: str) -> str:
        """SHA-256 over all that decides a model of a level, the generation of its ids included."""
        digest, generation = self.config.model_digest(level), self.generation()
        return digest if generation == 1 else hashlib.sha256(f"{digest} {generation}".encode()).hexdigest()

    def refuse_other_generation(self, entry: LedgerEntry) -> None:
        """Refuse a model whose ids mean other tokens than those of the tables by now.

        Raises:
            InputError: The vocabulary was dealt anew since the model was trained.
        """
        trained = json.loads(entry.metrics_json).get("vocabulary_generation", 1)
        if trained != self.generation():
            raise InputError(
                f"{entry.version} was trained on vocabulary generation {trained}; the tables are of generation "
                f"{self.generation()}, in which ids mean other tokens",
                hint="train it anew, or choose a version of this generation (ecdctr models list)",
            )

    def forget_pins(self) -> None:
        """Look at the tables anew; called after they were written."""
        self._pins.clear()
        self.lease.release()
        self._marks = None
        self._generation = None
        self._expired.clear()

    def first_day(self, table: str) -> dt.date:
        """The first day that a samples table has rows of."""
        files = self.pinned(table).files
        if not files:
            raise NotReadyError(f"{table} has no rows", hint="check the config's dataset section, then ecdctr prepare")
        return min(file.event_date for file in files if file.event_date is not None)

    def rows_until(self, date: dt.date) -> dict[str, int]:
        """Table rows of each vocabulary as known from days strictly before `date`."""
        if self._marks is None:
            with self._one_generation():
                marks = high_water_marks(self.lake, self.all_features)
            self._marks = marks
        return self._marks.rows_until(date)

    def expired(self, date: dt.date) -> ExpiredTokens:
        """Ids of tokens that were not seen for their `expire_after` days before `date`, written for the ranks."""
        # A job may run for longer than a list is kept that nobody asks for.
        if date not in self._expired or not self._expired[date].renew():
            with self._one_generation():
                found = write_expired(self.lake, self.config, date, self.root)
            self._expired[date] = found
        return self._expired[date]

    def count_entities(self) -> dict[str, int]:
        """Distinct users and items of both domains' clean impressions."""
        both = [self.lake.read(f"{domain}_impressions").select("user_id", "item_id") for domain in ("natural", "ad")]
        row = both[0].unionByName(both[1]).selectExpr("count(DISTINCT user_id) users", "count(DISTINCT item_id) items")
        return row.collect()[0].asDict()

    def call(self, name: str, payload: dict[str, Any], label: str) -> list[dict[str, Any]]:
        """Run a task on all ranks, which are started by the first call and stay for the next one."""
        if self._ranks is None:
            self._ranks = self._start_ranks()
        if self._stopping:
            raise TemporaryError("stopped as asked", hint="call again to go on")
        self.lease.renew()
        with self.progress.level(label) as show:

            def on_progress(progress: dict[str, Any]) -> None:
                self.lease.renew()
                show(progress)

            results = self._ranks.call(name, payload, on_progress=on_progress)
        # Of the first version that these ranks train: what lies between their start and their first step.
        self.opening = self.opening or results[0].get("opening", {})
        return results

    @contextmanager
    def using(self, config: Config) -> Iterator[Self]:
        """Work under another configuration of the same tables and ranks within a block, such as another seed."""
        before, self.config = self.config, config
        try:
            yield self
        finally:
            self.config = before

    @property
    def on_one_machine(self) -> bool:
        """Whether Spark's tasks run on this machine, where ranks may as well be processes beside it."""
        submitted = self._given is None and SUBMITTED in os.environ
        given = self.spark if submitted else self._given
        return is_local((given.sparkContext.master or "") if given is not None else self.config.spark.master)

    def beside(self, number: int) -> "Workspace":
        """Another workspace on the very same versions of tables, with ranks of its own: for another thread.

        Its ranks are processes of this machine; hooks, progress and leases are this one's, and are closed with this one.

        Args:
            number: Tells it from others.
        """
        # Hooks are made once.
        other = Workspace(self.config.model_copy(update={"hooks": []}))
        other.config, other._first, other._place = self.config, self, f"-{number}"
        other.hooks, other.progress, other.publishing = self.hooks, self.progress, self.publishing
        # Opened once: it removes what interrupted writers have left, which another thread's writers would look like.
        other.store = self.store
        # What the other works on is pinned here, and renewed from there.
        other.lease = self.lease
        for table in ("natural_samples", "ad_samples"):
            self.pinned(table)
        self.rows_until(dt.date.min)
        other._pins, other._marks, other._generation = self._pins, self._marks, self.generation()
        other._expired = self._expired
        return other

    def stop(self) -> None:
        """Ask what the ranks do, or would do next, to stop at its next step; from any thread."""
        self._stopping = True
        if self._ranks is not None:
            self._ranks.stop()

    def abort(self) -> None:
        """End the ranks now; from any thread."""
        self.stop()
        if self._ranks is not None:
            self._ranks.abort()

    @property
    def threads_of_rank(self) -> int:
        """Threads that torch uses in each rank: as configured, else those that its share of the cores can run at once."""
        if self.config.threads_per_rank:
            return self.config.threads_per_rank
        if self.on_one_machine:
            return max(1, cores.count() // self.config.ranks)
        # What Spark keeps free for the task in which the rank runs; of its machine no more is known here.
        return int(self.spark.sparkContext.getConf().get("spark.task.cpus", "1") or 1)

    def _start_ranks(self) -> RankSession:
        config = self.config
        # Process numbers are not unique where containers share a warehouse.
        mailbox = self.root / SESSIONS / f"{os.getpid()}{self._place}-{uuid.uuid4().hex[:8]}"
        logger.info("starting %d training ranks", config.ranks)
        session = RankSession(
            None if self._first is not None else self.spark,
            config.ranks,
            mailbox,
            threads_per_rank=self.threads_of_rank,
            stall_seconds=config.stall_seconds,
            local_exchange=config.local_exchange,
            # Ranks of walks side by side share the cores.
            bind_to_cores=config.bind_to_cores and self._first is None,
        )
        session.__enter__()
        self.startup = dict(session.startup)
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._first is None:
            if isinstance(error, Exception) and not isinstance(error, AlreadyDone | NotReadyError):
                self.hooks.fire(FailureEvent, error=type(error).__name__, message=str(error))
            self.progress.close()
            self.lease.release()
            if "staging" in self.__dict__:
                shutil.rmtree(self.staging, ignore_errors=True)
        if self._ranks is not None:
            self._ranks.__exit__(kind, error, trace)
            self._ranks = None


@contextmanager
def workspace(config: Config, spark: "SparkSession | None" = None, hooks: Sequence[Hook] = ()) -> Iterator[Workspace]:
    """Open a workspace for one command."""
    with Workspace(config, spark, hooks) as opened:
        yield opened
