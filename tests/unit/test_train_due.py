"""`train --if-due`: the clocks of the configuration decide, as in a walk over days."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecdctr.config import load_config
from ecdctr.exceptions import AlreadyDone
from ecdctr.pipelines.daily import _Steps
from ecdctr.pipelines.train import train_one

pytestmark = pytest.mark.unit

SIMULATED = Path(__file__).parents[2] / "conf" / "datasets" / "simulated.yml"
START = dt.date(2024, 1, 1)
LEVELS = ("tpm", "cpm", "actr")
DUE = {"tpm": {12, 16}, "cpm": {12, 15, 18}}
CLOCKS = ["levels.tpm={every: 4d, snapshots: 3}", "levels.cpm.every=3d"]


def day(offset: int) -> dt.date:
    return START + dt.timedelta(days=offset)


class Shop:
    """Workspace, publisher and levels in one: remembers which levels were trained for which days."""

    def __init__(self, *arms: str) -> None:
        self.config = load_config(SIMULATED, [*CLOCKS, f"arms=[{','.join(arms)}]"])
        self.trained: list[tuple[str, str, int]] = []
        self.late: list[SimpleNamespace] = []
        self.scored: list[SimpleNamespace] = []

    def pinned(self, table):
        return SimpleNamespace(files=[SimpleNamespace(event_date=day(offset)) for offset in range(30)])

    def refuse_unprepared(self, date):
        pass

    def first_day(self, table):
        return day(0)

    def versions(self, level, arm):
        dates = [day(offset) for of, name, offset in self.trained if (of, name) == (level, arm)]
        return [SimpleNamespace(date=date) for date in sorted(dates)]

    def _add(self, level, arm, date):
        self.trained.append((level, arm, (date - START).days))
        return SimpleNamespace(version=f"{level}-{arm}-{date}", digest="0")

    def tpm(self, date):
        return self._add("tpm", "base", date)

    def cpm(self, date, twin):
        return self._add("cpm", twin.name, date)

    def actr(self, date, arm, *, score):
        return self._add("actr", arm.name, date)

    def unscored(self, arm, since, until):
        return self.late

    def score(self, entry):
        self.scored.append(entry)

    def flush(self):
        pass


@pytest.fixture
def shop(monkeypatch):
    def make(*arms: str) -> Shop:
        made = Shop(*arms)
        monkeypatch.setattr("ecdctr.pipelines.train.Publisher", lambda _: made)
        monkeypatch.setattr("ecdctr.pipelines.train.Levels", lambda *_: made)
        return made

    return make


def schedule(shop: Shop, offsets, levels=LEVELS):
    """Ask each level of each day, as a scheduler does; gives what was skipped."""
    skipped = []
    for offset in offsets:
        for level in levels:
            try:
                train_one(shop, level, day(offset), only_due=True)
            except AlreadyDone:
                skipped.append((level, offset))
    return skipped


def test_asked_day_by_day_the_same_versions_come_as_from_a_walk(shop, monkeypatch):
    asked = shop("ecdctr", "ecdctr_no_tpm", "target_only")
    skipped = schedule(asked, range(12, 20))
    assert skipped == [(level, o) for o in range(13, 20) for level in ("tpm", "cpm") if o not in DUE[level]]
    walked = Shop("ecdctr", "ecdctr_no_tpm", "target_only")
    walked.startup = {}
    monkeypatch.setattr("ecdctr.pipelines.daily.Levels", lambda *_: walked)
    steps = _Steps(
        walked, walked, SimpleNamespace(seconds=dict.fromkeys(LEVELS, 0.0), trained=dict.fromkeys(LEVELS, 0))
    )
    for offset in range(12, 20):
        steps.day(day(offset))
    assert asked.trained == walked.trained


def test_the_first_time_earlier_snapshots_are_made_too_and_a_repetition_makes_nothing(shop):
    found = shop("ecdctr")
    schedule(found, [12], ["tpm"])
    assert [offset for _, _, offset in found.trained] == [4, 8, 12]
    assert schedule(found, [12], ["tpm"]) == [("tpm", 12)]


def test_where_no_arm_reads_snapshots_none_is_due(shop):
    found = shop("target_only")
    assert schedule(found, [12], ["tpm", "cpm"]) == [("tpm", 12), ("cpm", 12)]


def test_without_if_due_a_day_is_trained_whenever_it_is_asked_for(shop):
    found = shop("ecdctr")
    for offset in (12, 13):
        train_one(found, "tpm", day(offset))
        train_one(found, "cpm", day(offset))
    assert [offset for level, _, offset in found.trained if level == "tpm"] == [12, 13]
    with pytest.raises(AlreadyDone, match="cpm of 2024-01-14 is published"):
        train_one(found, "cpm", day(13))
