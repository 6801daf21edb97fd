"""The three levels: each pins its inputs, trains on the ranks, and hands over a version."""

import datetime as dt
import json
import logging
from pathlib import Path
from typing import Any, Literal

from ecdctr.artifacts.leftovers import CHECKPOINTS
from ecdctr.config.training import TrainingConfig
from ecdctr.exceptions import NotReadyError
from ecdctr.features.domains import Domain
from ecdctr.features.feature_set import SOURCE, FeatureSet
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.pipelines.arms import ARMS, Arm, Reading, Twin
from ecdctr.pipelines.clock import DAY, day_number
from ecdctr.pipelines.holdout import held_out
from ecdctr.pipelines.publish import Publisher, until_day
from ecdctr.pipelines.workspace import Workspace
from ecdctr.training.task import (
    ExpiredIds,
    Files,
    FineTune,
    History,
    LevelTask,
    ScoringTask,
    Snapshot,
    Start,
    Tower,
)

logger = logging.getLogger(__name__)

Window = tuple[dt.date, dt.date]
BASE = "base"


def trained_until(entry: LedgerEntry) -> dt.date:
    """First day whose rows a version has not trained on; those up to its window's end it may have looked at to stop early."""
    recorded = json.loads(entry.metrics_json).get("trained_until")
    return dt.date.fromisoformat(recorded) if recorded else entry.window_until


def _hold_back(window: Window, training: TrainingConfig) -> tuple[Window, Window | None]:
    """Days to train on, and the last ones, which early stopping looks at.

    Raises:
        NotReadyError: Nothing would be left to train on.
    """
    days = training.early_stopping.days
    if days == 0:
        return window, None
    cut = window[1] - days * DAY
    if cut <= window[0]:
        raise NotReadyError(
            f"early stopping holds back {days} days, and the window [{window[0]}, {window[1]}) has no more",
            hint="prepare more days, choose a later date, or lower early_stopping.days",
        )
    return (window[0], cut), (cut, window[1])


class Levels:
    """Trains levels of one configuration.

    Args:
        workspace: Tables, ledger and ranks.
        publisher: Takes what was trained.
    """

    def __init__(self, workspace: Workspace, publisher: Publisher) -> None:
        self.workspace = workspace
        self.publisher = publisher
        self.config = workspace.config

    def tpm(self, date: dt.date) -> LedgerEntry:
        """A snapshot of historical embeddings from natural rows before `date`."""
        level = self.config.levels.tpm
        earlier = [entry for entry in self.publisher.versions("tpm", BASE) if entry.date < date]
        window = self._window("natural_samples", date, level.window)
        start = Start(kind="scratch")
        parents = []
        if level.continue_previous and earlier and earlier[-1].window_until > window[0]:
            start = self._start("continue", earlier[-1])
            window = (trained_until(earlier[-1]), date)
            parents = [earlier[-1].version]
        features = self.workspace.features
        features = features.only([features.user_field, features.item_field, *level.fields])
        options = {"embedding_dim": level.embedding_dim, "hidden_units": level.hidden_units}
        task = self._task(
            "tpm", BASE, date, window, features, "tiny", options, level.training, start, export_snapshot=True
        )
        return self._train(task, date, window, parents)

    def cpm(self, date: dt.date, twin: Twin) -> LedgerEntry:
        """The ad model's twin on recent natural rows before `date`."""
        level = self.config.levels.cpm
        window = self._window("natural_samples", date, level.window)
        history, parents = self._history(date, twin.history)
        task = self._full_task(
            "cpm", twin.name, twin.options(self.config), date, window, level.training, Start(kind="scratch"), history,
            # Read by the arm `frozen_features`.
            export_snapshot=twin.history is None,
        )  # fmt: skip
        return self._train(task, date, window, parents)

    def actr(self, date: dt.date, arm: Arm, *, score: bool) -> LedgerEntry:
        """The ad model from rows before `date`, and, with `score`, its predictions for the rows of `date`.

        It goes on from its own yesterday; where a newer CPM version has appeared it starts from that one and replays
        its window.

        Raises:
            NotReadyError: No CPM version, no rows in the window.
        """
        if arm.joint is not None:
            return self._joint(date, arm, score=score)
        level = self.config.levels.actr
        window = self._window("ad_samples", date, level.window)
        start, parents = Start(kind="scratch"), []
        # What the parameters come from.
        origin: LedgerEntry | None = None
        twin = arm.twin(self.config)
        cpm = self._newest("cpm", twin.name, date) if arm.needs_cpm else None
        if arm.needs_cpm and cpm is None:
            self.publisher.refuse_other_generation("cpm", twin.name)
            raise NotReadyError(
                f"no CPM version ({twin.name}) that ends by {date}",
                hint=f"ecdctr train cpm --date {date}, or ecdctr run",
            )
        if cpm is not None:
            parents = [cpm.version]
        if cpm is not None and arm.pretrained:
            start = self._start("warm", cpm, arm.batch_norm or self.config.transfer.batch_norm)
            kept = arm.table_state or self.config.transfer.table_state
            origin, start = cpm, start.model_copy(update={"table_state": kept})
        previous = self._newest("actr", arm.name, date - DAY)
        # A frozen tower is replaced beside the model that goes on; whatever was copied or read as an input is not.
        goes_on = previous is not None and (arm.frozen == "tower" or set(parents) <= set(previous.parents))
        if previous is not None and previous.window_until > window[0] and goes_on:
            origin, start = previous, self._start("continue", previous)
            parents = [*parents, previous.version]
            window = (trained_until(previous), date)
        history, snapshots = self._history(date, twin.history, origin if self.config.transfer.pin_snapshots else None)
        if arm.frozen == "features" and cpm is not None:
            # CPM has seen no ad, so its newest vectors tell no row of this table its own label.
            dim = self.config.model.embedding_dim
            history = History(snapshots=[self._snapshot(cpm)], count=1, lookup="latest", dim=dim)
        task = self._full_task(
            "actr", arm.name, arm.options(self.config), date, window, level.training, start, history,
            score=(date, date + DAY) if score else None, tower=cpm if arm.frozen == "tower" else None,
            fine_tune=self._fine_tune(arm), warmup_batches=self._warmup(start, arm),
        )  # fmt: skip
        return self._train(task, date, window, [*parents, *snapshots])

    def score(self, entry: LedgerEntry) -> None:
        """Scores of a published ad model for its own day, whose rows were not there when it was published."""
        settings = self.config.joint.training if ARMS[entry.arm].joint else self.config.levels.actr.training
        task = ScoringTask(
            version=entry.artifact, files=self._files("ad_samples", (entry.date, entry.date + DAY), held=True), training=settings,
            seed=self.config.seed, lanes=self.config.lanes, store=str(self.workspace.store.root),
            score_dir=self._staging(entry.version),
        )  # fmt: skip
        self.workspace.call("score_published", task.model_dump(mode="json"), f"score {entry.arm} {entry.date}")
        self.publisher.add_scores(entry, Path(task.score_dir))

    def _staging(self, version: str) -> str:
        """Where the ranks lay a version's scores until they are published."""
        return str(self.workspace.staging / version)

    def _joint(self, date: dt.date, arm: Arm, *, score: bool) -> LedgerEntry:
        """One model on both domains: first on both windows before `date`, then on what is new since its last version.

        Raises:
            NotReadyError: No ads in the window.
        """
        levels, joint = self.config.levels, self.config.joint
        ads = self._window("ad_samples", date, levels.actr.window)
        natural = self._window("natural_samples", date, levels.cpm.window)
        start, parents = Start(kind="scratch"), []
        previous = self._newest("actr", arm.name, date - DAY)
        if previous is not None and previous.window_until > ads[0]:
            start, parents = self._start("continue", previous), [previous.version]
            ads = natural = (trained_until(previous), date)
        window = (min(ads[0], natural[0]), date)
        (ads, held), (natural, _) = (_hold_back(part, joint.training) for part in (ads, natural))
        train = [self._files("ad_samples", ads, joint.ad_weight), self._files("natural_samples", natural)]
        features = self.workspace.all_features if arm.joint == "minet" else self.workspace.features
        task = self._task(
            "actr", arm.name, date, window, features, arm.joint or "", arm.options(self.config),
            joint.training, start, score=(date, date + DAY) if score else None, train=train, held=held,
            warmup_batches=self._warmup(start, arm),
        )  # fmt: skip
        return self._train(task, date, window, parents)

    def _window(self, table: str, date: dt.date, length: int) -> Window:
        """The `length` days before `date`, as far back as the table reaches."""
        return min(max(date - length * DAY, self.workspace.first_day(table)), date), date

    def _newest(self, level: str, arm: str, date: dt.date) -> LedgerEntry | None:
        found = [entry for entry in self.publisher.versions(level, arm) if entry.window_until <= date]
        return found[-1] if found else None

    def _start(self, kind: Literal["continue", "warm"], parent: LedgerEntry, batch_norm: Any = "keep") -> Start:
        shift = kind == "warm" and self.config.transfer.prior_shift
        return Start(
            kind=kind,
            artifact=str(self.workspace.store.existing(parent.artifact)),
            version=parent.version,
            digest=parent.digest,
            batch_norm=batch_norm,
            log_odds=json.loads(parent.metrics_json)["log_odds"] if shift else None,
        )

    def _fine_tune(self, arm: Arm) -> FineTune | None:
        """How the arm learns from CPM; None where it learns all, or has no CPM."""
        kind = arm.policy or self.config.transfer.policy
        if kind == "full" or not arm.pretrained:
            return None
        return FineTune(kind=kind, settings=arm.autoft(self.config))

    def _warmup(self, start: Start, arm: Arm) -> int:
        """Batches over which running statistics of batch normalisation begin; 0 where they go on or are copied."""
        transfer = self.config.transfer
        anew = start.kind == "scratch" or (start.kind == "warm" and start.batch_norm != "keep")
        wanted = transfer.batch_norm_warmup if arm.batch_norm_warmup is None else arm.batch_norm_warmup
        return transfer.batch_norm_warmup_batches if anew and wanted else 0

    def _history(
        self, date: dt.date, reading: Reading | None, origin: LedgerEntry | None = None
    ) -> tuple[History | None, list[str]]:
        """Snapshots that rows before or on `date` may look up, oldest first, and the names of the newest ones.

        Args:
            date: The day that is served.
            reading: How they are read.
            origin: Where given, no snapshot newer than those that this version was trained to read.
        """
        if reading is None:
            return None, []
        entries = [entry for entry in self.publisher.versions("tpm", BASE) if entry.window_until <= date]
        if origin is not None:
            newest = max(entry.window_until for entry in entries if entry.version in origin.parents)
            entries = [entry for entry in entries if entry.window_until <= newest]
        if not entries:
            self.publisher.refuse_other_generation("tpm", BASE)
            raise NotReadyError(
                f"no TPM snapshot that ends by {date}", hint=f"ecdctr train tpm --date {date}, or ecdctr run"
            )
        history = History(
            snapshots=[self._snapshot(entry) for entry in entries], count=reading.count, lookup=reading.lookup, dim=self.config.levels.tpm.embedding_dim,
            shuffled=reading.shuffled, unit_length=reading.unit_length,
            entities=["user", "item"] if reading.of == "both" else [reading.of],
        )  # fmt: skip
        return history, [entry.version for entry in entries[-reading.count :]]

    def _snapshot(self, entry: LedgerEntry) -> Snapshot:
        folder = str(self.workspace.store.existing(entry.artifact))
        return Snapshot(version=entry.version, until_day=until_day(entry), folder=folder, digest=entry.digest)

    def _full_task(
        self,
        level: Literal["cpm", "actr"],
        arm: str,
        options: dict[str, Any],
        date: dt.date,
        window: Window,
        training: TrainingConfig,
        start: Start,
        history: History | None,
        **further: Any,
    ) -> LevelTask:
        return self._task(
            level, arm, date, window, self.workspace.features, self.config.model.backbone, options, training, start,
            history=history, **further,
        )  # fmt: skip

    def _task(
        self,
        level: Literal["tpm", "cpm", "actr"],
        arm: str,
        date: dt.date,
        window: Window,
        features: FeatureSet,
        backbone: str,
        options: dict[str, Any],
        training: TrainingConfig,
        start: Start,
        *,
        history: History | None = None,
        score: Window | None = None,
        export_snapshot: bool = False,
        fine_tune: FineTune | None = None,
        train: list[Files] | None = None,
        held: Window | None = None,
        tower: LedgerEntry | None = None,
        warmup_batches: int = 0,
    ) -> LevelTask:
        config, workspace = self.config, self.workspace
        if train is None:
            window, held = _hold_back(window, training)
        table = "ad_samples" if level == "actr" else "natural_samples"
        known = workspace.rows_until(date)
        rows = {name: known[name] for name in features.vocabularies}
        if tower is not None:
            known = workspace.rows_until(tower.date)
            rows |= {SOURCE + name: known[name] for name in features.vocabularies}
        draft = LevelTask(
            version="", level=level, arm=arm, features=json.loads(json.dumps(features.__dict__)),
            rows=rows, backbone=backbone, options=options,
            training=training, seed=config.seed, lanes=config.lanes, ranks=config.ranks, start=start,
            train=train or [self._files(table, window)], validation=[self._files(table, held)] if held else [], tower=self._tower(tower), history=history, fine_tune=fine_tune,
            expired=self._expired(date, features), warmup_batches=warmup_batches, export_snapshot=export_snapshot, score=self._files("ad_samples", score, held=True) if score else None,
            score_day=day_number(score[0]) if score else None,
            store=str(workspace.store.root), checkpoints="",
        )  # fmt: skip
        if draft.train[0].rows == 0 and start.kind != "continue":
            raise NotReadyError(
                f"{table} has no rows in [{window[0]}, {window[1]}), which {level} of {date} trains on",
                hint="prepare more days, or choose a later date or a longer window",
            )
        version = f"{level}-{arm}-{date}-{draft.digest()[:10]}"
        return draft.model_copy(
            update={
                "version": version,
                "checkpoints": str(workspace.root / CHECKPOINTS / version),
                "score_dir": self._staging(version) if score else None,
            }
        )

    def _expired(self, date: dt.date, features: FeatureSet) -> ExpiredIds | None:
        """Ids of the level's vocabularies that no row may train any more; None where none can expire, or none has."""
        names = [name for name in features.vocabularies if self.config.vocabulary(name).expire_after is not None]
        found = self.workspace.expired(date) if names else None
        counts = {name: found.counts[name] for name in names if name in found.counts} if found else {}
        if found is None or not counts:
            return None
        return ExpiredIds(folder=str(found.folder), digest=found.digest, counts=counts)

    def _tower(self, entry: LedgerEntry | None) -> Tower | None:
        if entry is None:
            return None
        return Tower(
            version=entry.version, artifact=str(self.workspace.store.existing(entry.artifact)), digest=entry.digest
        )

    def _files(self, table: str, window: Window, weight: float = 1.0, *, held: bool = False) -> Files:
        """Files of some days; held-out ones are left out of training, and scored beside the days to score."""
        pinned = self.workspace.pinned(table)
        kept_back = held_out(pinned.files, self.config.holdout) if table == "ad_samples" else set[str]()
        first, last = (day.isoformat() for day in window)
        chosen = [
            (file.path, file.rows)
            for file in pinned.files
            if (file.path in kept_back and held)
            or (first <= str(file.event_date) < last and file.path not in kept_back)
        ]
        domain: Domain = "ad" if table == "ad_samples" else "natural"
        return Files(table=table, version=pinned.version, files=chosen, domain=domain, weight=weight)

    def _train(self, task: LevelTask, date: dt.date, window: Window, parents: list[str]) -> LedgerEntry:
        records = self.workspace.call("train_level", task.model_dump(mode="json"), f"{task.level} {task.arm} {date}")
        record = records[0] | {"peak_rss_bytes": max(item["peak_rss_bytes"] for item in records)}
        held = task.training.early_stopping.days
        record["trained_until"] = (window[1] - held * DAY).isoformat()
        record["window_days"] = day_number(window[1]) - day_number(window[0])
        logger.info(
            "%s %s %s: %s rows, %d steps, log loss %s, %.1f s",
            task.level, task.arm, date, f"{record['rows']:,}", record["steps"], f"{record['train_log_loss'] or float('nan'):.4f}", record["seconds"],
        )  # fmt: skip
        return self.publisher.add(task, date, window, parents, record)
