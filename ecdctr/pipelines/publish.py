"""Make trained versions known: tables first, one ledger commit last."""

import datetime as dt
import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecdctr import __version__
from ecdctr.hooks import PublishEvent, TableEvent
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.pipelines.clock import day_number
from ecdctr.pipelines.workspace import Workspace
from ecdctr.scoring.predictions import append_predictions, rows_scored
from ecdctr.scoring.snapshots import append_snapshot
from ecdctr.training.task import LevelTask

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A version that the ranks have written and the ledger does not know yet."""

    task: LevelTask
    entry: LedgerEntry


class Publisher:
    """Collects trained versions and publishes them together: a Delta commit costs about a second, a day's update less.

    Until the ledger commit, a version is only a folder; a run that is killed before finds it again and adopts it.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.waiting: list[Trained] = []

    def versions(self, level: str, arm: str) -> list[LedgerEntry]:
        """Versions of this configuration, published or waiting, by date."""
        config, digest = self.workspace.config, self.workspace.model_digest(level)
        published = [
            entry
            for entry in self.workspace.ledger.versions(level=level, arm=arm)
            if entry.config_digest == digest and entry.seed == config.seed
        ]
        waiting = [t.entry for t in self.waiting if (t.entry.level, t.entry.arm) == (level, arm)]
        return sorted([*published, *waiting], key=lambda entry: entry.date)

    def refuse_other_generation(self, level: str, arm: str) -> None:
        """Say so where versions are missing because the vocabulary's ids were dealt anew since they were trained.

        Raises:
            InputError: Those of this level, arm and seed that are published are of another generation.
        """
        seed = self.workspace.config.seed
        published = [entry for entry in self.workspace.ledger.versions(level=level, arm=arm) if entry.seed == seed]
        if published and not self.versions(level, arm):
            self.workspace.refuse_other_generation(published[-1])

    def add(
        self,
        task: LevelTask,
        date: dt.date,
        window: tuple[dt.date, dt.date],
        parents: list[str],
        record: dict[str, Any],
    ) -> LedgerEntry:
        """Take a trained version in; it is published by the next `flush`."""
        config = self.workspace.config
        tables = {files.table: files.version for files in task.train}
        record = record | {"vocabulary_generation": self.workspace.generation()}
        entry = LedgerEntry(
            version=task.version, level=task.level, arm=task.arm, date=date, window_from=window[0], window_until=window[1],
            parents=tuple(parents), tables=tables, config_digest=self.workspace.model_digest(task.level), code_version=__version__,
            feature_fingerprint=self.workspace.features.fingerprint(), seed=config.seed, ranks=config.ranks,
            artifact=task.folder.name, digest=record["digest"], metrics_json=json.dumps(record, sort_keys=True),
        )  # fmt: skip
        self.waiting.append(Trained(task, entry))
        return entry

    def unscored(self, arm: str, since: dt.date, until: dt.date) -> list[LedgerEntry]:
        """Ad models that were published before all rows of their day were there, which now are; those without files are left out.

        Args:
            arm: The arm.
            since: Days from here on are held against what they have scored; of earlier ones those that had no row at all.
            until: The last day.
        """
        rows: Counter[dt.date] = Counter()
        for file in self.workspace.pinned("ad_samples").files:
            if file.event_date is not None:
                rows[file.event_date] += file.rows
        asked = [
            entry
            for entry in self.versions("actr", arm)
            if rows[entry.date]
            and entry.date <= until
            and (entry.date >= since or "score_seconds" not in json.loads(entry.metrics_json))
        ]
        scored = rows_scored(self.workspace.lake, {entry.date for entry in asked})
        late = [entry for entry in asked if scored[entry.version, entry.date] < rows[entry.date]]
        gone = [entry.version for entry in late if not self.workspace.store.path(entry.artifact).exists()]
        if gone:
            logger.warning("rows of their days have come that %s cannot score: their files are gone", ", ".join(gone))
        return [entry for entry in late if entry.version not in gone]

    def add_scores(self, entry: LedgerEntry, folder: Path) -> None:
        """Publish what the ranks have scored later with a version that is published."""
        with self.workspace.publishing, self.told("predictions", [entry], "ad_samples"):
            append_predictions(
                self.workspace.lake, {entry.version: folder}, {entry.version: entry.arm}, self.workspace.config.seed
            )
        shutil.rmtree(folder, ignore_errors=True)
        logger.info("scored %s with %s", entry.date, entry.version)

    def flush(self) -> None:
        """Write predictions and snapshots of all waiting versions, then one ledger commit that publishes them."""
        if self.waiting:
            with self.workspace.publishing:
                self._flush()

    def _flush(self) -> None:
        lake = self.workspace.lake
        for trained in self.waiting:
            if trained.task.level == "tpm":
                with self.told("tpm_embeddings", [trained.entry]):
                    append_snapshot(lake, trained.task.folder, trained.entry.version, trained.entry.date)
        scored = {t.entry.version: t for t in self.waiting if t.task.score_dir is not None}
        if scored:
            with self.told("predictions", [t.entry for t in scored.values()]):
                append_predictions(
                    lake,
                    {version: Path(t.task.score_dir or "") for version, t in scored.items()},
                    {version: t.entry.arm for version, t in scored.items()},
                    self.workspace.config.seed,
                )
        self.workspace.ledger.commit_versions([trained.entry for trained in self.waiting])
        for entry in [trained.entry for trained in self.waiting]:
            self.workspace.hooks.fire(
                PublishEvent, version=entry.version, level=entry.level, arm=entry.arm, date=entry.date,
                parents=entry.parents, tables=entry.tables,
            )  # fmt: skip
        for trained in scored.values():
            shutil.rmtree(trained.task.score_dir or "", ignore_errors=True)
        logger.info("published %d version(s), the newest is %s", len(self.waiting), self.waiting[-1].entry.version)
        self.waiting.clear()

    @contextmanager
    def told(self, table: str, entries: list[LedgerEntry], *read: str) -> Iterator[None]:
        """Tell the hooks of what is appended to a table; where there are none, nothing is looked up.

        Args:
            table: The table.
            entries: The versions that it is of.
            read: The tables that it is made from; by default those that the versions were trained on.
        """
        lake, hooks = self.workspace.lake, self.workspace.hooks
        if not hooks:
            yield
            return
        before = lake.version(table), lake.snapshot(table).rows if lake.exists(table) else 0
        yield
        version = lake.version(table)
        if version is not None and version != before[0]:
            inputs = read or tuple(dict.fromkeys(name for entry in entries for name in entry.tables))
            rows = lake.snapshot(table).rows - before[1]
            hooks.fire(TableEvent, job="publish", table=table, version=version, rows=rows, inputs=inputs)


def until_day(entry: LedgerEntry) -> int:
    """Days since 1970 of the first day that a version has not seen."""
    return day_number(entry.window_until)
