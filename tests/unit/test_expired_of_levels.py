"""A level asks for what has expired by its own day, once a day, and only of vocabularies that it reads and that can expire."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecdctr.config import load_config
from ecdctr.etl.expiry import ExpiredTokens
from ecdctr.pipelines import workspace as workspaces
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.levels import Levels
from ecdctr.pipelines.workspace import Workspace
from tests.unit.test_levels_baselines import SIMULATED, Ledger, day

pytestmark = pytest.mark.unit


class Expiring(Ledger):
    def __init__(self, *overrides):
        super().__init__(*overrides)
        self.asked: list[dt.date] = []
        self.counts = {"user_id": 3, "category": 2}

    def expired(self, date):
        self.asked.append(date)
        return SimpleNamespace(folder=Path("/warehouse/_expired/x"), digest="d", counts=self.counts)


def test_tasks_name_what_has_expired_by_their_day():
    ledger = Expiring("vocabularies={user_id: {expire_after: 9d}, brand: {expire_after: 9d}}")
    levels = Levels(ledger, ledger)
    levels.tpm(day(8))
    levels.cpm(day(10), ARMS["ecdctr"].twin(ledger.config))
    levels.actr(day(10), ARMS["ecdctr"], score=True)
    assert ledger.asked == [day(8), day(10), day(10)]
    # `category` cannot expire, and of `brand` nothing has.
    assert [task.expired.counts for task in ledger.tasks] == [{"user_id": 3}] * 3
    assert {task.expired.folder for task in ledger.tasks} == {"/warehouse/_expired/x"}
    before = [task.version for task in ledger.tasks]
    ledger.tasks.clear()
    ledger.counts = {}
    levels.tpm(day(8))
    assert ledger.tasks[0].expired is None
    assert ledger.tasks[0].version != before[0]


def test_where_nothing_can_expire_nobody_is_asked():
    ledger = Ledger()
    Levels(ledger, ledger).tpm(day(8))
    assert ledger.tasks[0].expired is None


def test_the_list_of_a_day_is_made_once_and_anew_when_tables_were_written(monkeypatch, tmp_path):
    made = []

    def write(lake, config, date, root):
        made.append((date, root))
        return ExpiredTokens(root / "x", "d", {})

    monkeypatch.setattr(workspaces, "write_expired", write)
    with Workspace(load_config(SIMULATED, [f"warehouse={tmp_path}"])) as opened:
        for date in (day(1), day(1), day(2)):
            opened.expired(date)
        opened.forget_pins()
        opened.expired(day(1))
        assert made == [(date, opened.root) for date in (day(1), day(2), day(1))]
