"""Day by day: which rows, which start and which frozen parent a baseline's version is made of."""

import datetime as dt
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecdctr.config import load_config
from ecdctr.features.feature_set import feature_set
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.levels import Levels
from ecdctr.training.task import LevelTask

pytestmark = pytest.mark.unit

SIMULATED = Path(__file__).parents[2] / "conf" / "datasets" / "simulated.yml"
START = dt.date(2024, 1, 1)
ROWS = {"natural_samples": 100, "ad_samples": 10}


def day(offset: int) -> dt.date:
    return START + dt.timedelta(days=offset)


class Ledger:
    """Publisher and workspace in one, without tables or ranks: remembers tasks, and what became of them."""

    def __init__(self, *overrides: str) -> None:
        windows = ["levels.cpm.window=5d", "levels.actr.window=3d", "levels.cpm.every=2d"]
        self.config = load_config(SIMULATED, [*windows, *overrides])
        self.features = feature_set(self.config.dataset.features, {})
        self.root = Path("/warehouse")
        self.staging = self.root / "_staging"
        self.store = SimpleNamespace(root=self.root, path=self.root.joinpath, existing=self.root.joinpath)
        self.tasks: list[LevelTask] = []
        self.entries: list[LedgerEntry] = []

    def pinned(self, table: str):
        files = [
            SimpleNamespace(path=f"{table}-{offset}", rows=ROWS[table], event_date=day(offset)) for offset in range(20)
        ]
        return SimpleNamespace(files=files, version=7)

    def first_day(self, table: str) -> dt.date:
        return day(0)

    def rows_until(self, date: dt.date) -> dict[str, int]:
        return dict.fromkeys(self.features.vocabularies, 100 + (date - START).days)

    def call(self, name: str, payload: dict, label: str) -> list[dict]:
        self.tasks.append(LevelTask.model_validate(payload))
        record = {"rows": self.tasks[-1].train_rows, "steps": 1, "train_log_loss": 0.5, "seconds": 0.1}
        return [record | {"peak_rss_bytes": 1, "log_odds": -1.0, "digest": f"digest of {payload['version']}"}]

    def versions(self, level: str, arm: str) -> list[LedgerEntry]:
        return [entry for entry in self.entries if (entry.level, entry.arm) == (level, arm)]

    def add(self, task: LevelTask, date: dt.date, window, parents, record) -> LedgerEntry:
        entry = LedgerEntry(
            version=task.version, level=task.level, arm=task.arm, date=date, window_from=window[0],
            window_until=window[1], parents=tuple(parents), tables={}, config_digest="", code_version="",
            feature_fingerprint="", seed=1, ranks=1, artifact=task.version, digest=record["digest"],
            metrics_json=json.dumps(record),
        )  # fmt: skip
        self.entries.append(entry)
        return entry


def days_of(files) -> list[int]:
    return [int(path.rsplit("-", 1)[1]) for path, _ in files.files]


def test_joint_training_takes_both_windows_first_and_then_each_day_s_new_rows_of_both():
    ledger = Ledger("joint.ad_weight=4.0")
    levels = Levels(ledger, ledger)
    for offset in (10, 11, 13):
        levels.actr(day(offset), ARMS["star"], score=True)
    first, second, third = ledger.tasks
    for task in ledger.tasks:
        assert [(source.domain, source.table, source.weight) for source in task.train] == [
            ("ad", "ad_samples", 4.0), ("natural", "natural_samples", 1.0),
        ]  # fmt: skip
        assert (task.backbone, task.history, task.tower) == ("star", None, None)
        assert task.training == ledger.config.joint.training
        assert task.score.domain == "ad"
    assert [days_of(source) for source in first.train] == [[7, 8, 9], [5, 6, 7, 8, 9]]
    assert [days_of(source) for source in second.train] == [[10], [10]]
    # Day 12 was not walked: its rows and those of day 11 are new.
    assert [days_of(source) for source in third.train] == [[11, 12], [11, 12]]
    assert [task.start.kind for task in ledger.tasks] == ["scratch", "continue", "continue"]
    assert third.start.version == second.version
    assert [days_of(task.score) for task in ledger.tasks] == [[10], [11], [13]]


def test_joint_training_begins_anew_where_its_last_version_is_too_old():
    ledger = Ledger()
    levels = Levels(ledger, ledger)
    for offset in (6, 12):
        levels.actr(day(offset), ARMS["mmoe"], score=False)
    assert ledger.tasks[1].start.kind == "scratch"
    assert [days_of(source) for source in ledger.tasks[1].train] == [[9, 10, 11], [7, 8, 9, 10, 11]]


def walk(arm: str) -> tuple[Ledger, list[LevelTask]]:
    """CPM of days 10 and 12, the arm on days 10 to 13."""
    ledger = Ledger()
    levels = Levels(ledger, ledger)
    for offset in range(10, 14):
        if offset in (10, 12):
            levels.cpm(day(offset), ARMS[arm].twin(ledger.config))
        levels.actr(day(offset), ARMS[arm], score=True)
    return ledger, [task for task in ledger.tasks if task.level == "actr"]


def test_frozen_features_start_anew_with_the_vectors_of_a_new_cpm():
    ledger, tasks = walk("frozen_features")
    cpms = [task for task in ledger.tasks if task.level == "cpm"]
    assert all(cpm.export_snapshot for cpm in cpms)
    read = [task.history.snapshots for task in tasks]
    assert all(len(snapshots) == 1 for snapshots in read)
    assert [snapshots[0].version for snapshots in read] == [cpms[at].version for at in (0, 0, 1, 1)]
    assert {(task.history.lookup, task.history.count, task.history.dim) for task in tasks} == {
        ("latest", 1, ledger.config.model.embedding_dim)
    }
    assert [task.start.kind for task in tasks] == ["scratch", "continue", "scratch", "continue"]
    assert [days_of(task.train[0]) for task in tasks] == [[7, 8, 9], [10], [9, 10, 11], [12]]
    assert {task.options["snapshot_pooling"] for task in tasks} == {"mean"}


def test_a_frozen_tower_is_replaced_by_a_new_cpm_and_the_target_goes_on():
    ledger, tasks = walk("frozen_tower")
    cpms = [task for task in ledger.tasks if task.level == "cpm"]
    assert [task.tower.version for task in tasks] == [cpms[at].version for at in (0, 0, 1, 1)]
    assert [task.start.kind for task in tasks] == ["scratch", "continue", "continue", "continue"]
    assert [days_of(task.train[0]) for task in tasks] == [[7, 8, 9], [10], [11], [12]]
    known = [task.rows for task in tasks]
    assert [rows["user_id"] for rows in known] == [110, 111, 112, 113]
    # The source knows what its CPM knew.
    assert [rows["source.user_id"] for rows in known] == [110, 110, 112, 112]
    for entry, tower in zip([e for e in ledger.entries if e.level == "actr"], (0, 0, 1, 1), strict=True):
        assert cpms[tower].version in entry.parents
