"""Which days a command may train and score: those before which the tables are whole, and whose rows are there."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecdctr.config import load_config
from ecdctr.exceptions import NotReadyError
from ecdctr.pipelines import daily
from ecdctr.pipelines import workspace as workspace_module
from ecdctr.pipelines.workspace import Workspace
from tests.unit.test_train_due import day

pytestmark = pytest.mark.unit

SIMULATED = Path(__file__).parents[2] / "conf" / "datasets" / "simulated.yml"


def opened(*overrides):
    return Workspace(load_config(SIMULATED, [*overrides, "hooks=[]"]))


def test_no_version_of_a_day_before_which_rows_are_missing(monkeypatch):
    monkeypatch.setattr(workspace_module, "prepared_until", lambda lake: day(4))
    opened().refuse_unprepared(day(4))
    with pytest.raises(
        NotReadyError, match=rf"days before {day(4)}; a version of {day(5)} .* all days before it"
    ) as told:
        opened().refuse_unprepared(day(5))
    assert f"--until {day(5)}" in told.value.hint
    # Whoever has no tables at all is told so by what reads them.
    monkeypatch.setattr(workspace_module, "prepared_until", lambda lake: None)
    opened().refuse_unprepared(day(5))


def test_scores_of_two_commands_lie_apart_and_go_with_their_command(tmp_path):
    first, second = (opened(f"warehouse={tmp_path}") for _ in range(2))
    with first:
        (first.staging / "actr-1").mkdir(parents=True)
        beside = opened(f"warehouse={tmp_path}")
        beside._first = first
        assert beside.staging == first.staging
        (second.staging / "actr-1").mkdir(parents=True)
        assert first.staging != second.staging
    assert not first.staging.exists()
    assert (second.staging / "actr-1").is_dir()


def test_a_day_without_ads_is_trained_and_not_taken_for_scored(monkeypatch):
    asked, late = [], []
    levels = SimpleNamespace(
        tpm=lambda date: None,
        cpm=lambda date, twin: None,
        actr=lambda date, arm, score: asked.append((date, score)),
        score=lambda entry: late.append(entry.version),
    )
    refused = []
    shop = SimpleNamespace(
        config=load_config(SIMULATED, ["arms=[target_only]"]),
        first_day=lambda table: day(0),
        pinned=lambda table: SimpleNamespace(files=[SimpleNamespace(event_date=day(n)) for n in (0, 1, 2, 4)]),
        refuse_unprepared=refused.append,
        startup={},
        versions=lambda level, arm: [],
        unscored=lambda arm, since, until: [SimpleNamespace(version="v2", date=day(2)), SimpleNamespace(version="v0", date=day(0))],
        flush=lambda: None,
    )  # fmt: skip
    monkeypatch.setattr(daily, "Levels", lambda workspace, publisher: levels)
    daily.walk(shop, day(2), day(5), publisher=shop)
    assert refused == [day(4)]
    assert asked == [(day(2), True), (day(3), False), (day(4), True)]
    # Those before the walk are left to who walks them.
    assert late == ["v2"]
    assert isinstance(asked[0][0], dt.date)
