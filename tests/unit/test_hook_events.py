"""What publishing and failing tell the hooks, and when: nothing is told of before it stands."""

import datetime as dt
from threading import Lock
from types import SimpleNamespace

import pytest

from ecdctr.config import load_config
from ecdctr.exceptions import AlreadyDone, InputError, NotReadyError
from ecdctr.hooks import Hook, Hooks
from ecdctr.pipelines import publish
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.workspace import workspace
from tests.unit.test_train_due import SIMULATED

pytestmark = pytest.mark.unit

DAY = dt.date(2024, 1, 5)


class Recorder(Hook):
    def __init__(self, done=()):
        self.done, self.heard = done, []

    def after_publish(self, event):
        self.heard.append(("published", event.version, event.parents, event.tables, list(self.done)))

    def after_table_commit(self, event):
        self.heard.append((event.job, event.table, event.version, event.rows, event.inputs, list(self.done)))

    def on_failure(self, event):
        self.heard.append((event.error, event.message))


class Lake:
    """Tables by name, as numbers of rows; a version for each append."""

    def __init__(self, done):
        self.done, self.rows = done, {"predictions": [5]}

    def exists(self, table):
        return table in self.rows

    def version(self, table):
        return len(self.rows[table]) - 1 if table in self.rows else None

    def snapshot(self, table):
        return SimpleNamespace(rows=sum(self.rows[table]))

    def add(self, table, rows):
        self.rows.setdefault(table, []).append(rows)
        self.done.append(table)


@pytest.fixture
def publisher(monkeypatch):
    done: list[str] = []
    lake, recorder = Lake(done), Recorder(done)
    monkeypatch.setattr(publish, "append_snapshot", lambda lake, *_: lake.add("tpm_embeddings", 7))
    monkeypatch.setattr(publish, "append_predictions", lambda lake, *_: lake.add("predictions", 3))
    ledger = SimpleNamespace(commit_versions=lambda entries: done.append("ledger"))
    hooks = Hooks(given=[recorder])
    workspace = SimpleNamespace(
        lake=lake, ledger=ledger, hooks=hooks, config=SimpleNamespace(seed=1), publishing=Lock()
    )
    made = Publisher(workspace)
    for level, score in (("tpm", None), ("actr", "/nowhere")):
        task = SimpleNamespace(level=level, folder=None, score_dir=score)
        entry = SimpleNamespace(
            version=f"{level}-1", level=level, arm="a", date=DAY, parents=("p",), tables={"ad_samples": 3}
        )
        made.waiting.append(publish.Trained(task, entry))
    return made, recorder


def test_tables_are_told_of_when_they_are_written_and_versions_when_the_ledger_has_them(publisher):
    made, recorder = publisher
    made.flush()
    assert recorder.heard == [
        ("publish", "tpm_embeddings", 0, 7, ("ad_samples",), ["tpm_embeddings"]),
        ("publish", "predictions", 1, 3, ("ad_samples",), ["tpm_embeddings", "predictions"]),
        ("published", "tpm-1", ("p",), {"ad_samples": 3}, ["tpm_embeddings", "predictions", "ledger"]),
        ("published", "actr-1", ("p",), {"ad_samples": 3}, ["tpm_embeddings", "predictions", "ledger"]),
    ]
    assert made.waiting == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("no rows"), [("InputError", "no rows")]),
        (NotReadyError("tomorrow"), []),
        (AlreadyDone("yesterday"), []),
        (RuntimeError("bug"), [("RuntimeError", "bug")]),
    ],
)
def test_a_command_that_fails_says_so_and_one_that_has_nothing_to_do_does_not(tmp_path, error, told):
    recorder = Recorder()
    config = load_config(SIMULATED, [f"warehouse={tmp_path}"])
    with pytest.raises(type(error)), workspace(config, hooks=[recorder]):
        raise error
    assert recorder.heard == told
