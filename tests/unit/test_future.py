"""No level sees what lies at or after its day: neither rows, nor parents, nor snapshots, nor rows that are held out."""

from types import SimpleNamespace

import pytest

from ecdctr.config.schema import HoldoutConfig
from ecdctr.exceptions import NotReadyError
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.levels import Levels
from tests.unit.test_levels_baselines import ROWS, START, Ledger, day, days_of

pytestmark = pytest.mark.unit


class Lanes(Ledger):
    """Two files a day, so that one of them can be held out."""

    def pinned(self, table):
        files = [
            SimpleNamespace(path=f"{table}-lane{lane}-{offset}", rows=ROWS[table], event_date=day(offset))
            for offset in range(20)
            for lane in range(2)
        ]
        return SimpleNamespace(files=files, version=7)

    def refuse_other_generation(self, level, arm):
        """No version is of another generation."""


def number(date):
    return (date - START).days


@pytest.fixture
def walked():
    """Two TPM, two CPM and four A-CTR versions; a newer TPM and CPM lie ready beyond the days of the last ones."""
    ledger = Lanes()
    ledger.config = ledger.config.model_copy(update={"holdout": HoldoutConfig(since=day(7), until=day(10))})
    levels, arm = Levels(ledger, ledger), ARMS["ecdctr"]
    for offset in (6, 10, 16):
        levels.tpm(day(offset))
    for offset in (10, 12, 16):
        levels.cpm(day(offset), arm.twin(ledger.config))
    for offset in range(10, 14):
        levels.actr(day(offset), arm, score=True)
    return ledger


def test_rows_parents_and_snapshots_end_before_the_day(walked):
    dates = {entry.version: entry for entry in walked.entries}
    for task in walked.tasks:
        date = dates[task.version].date
        for source in task.train:
            assert max(days_of(source)) < number(date)
        if task.history is not None:
            assert all(dates[each.version].window_until <= date for each in task.history.snapshots)
            assert len(task.history.snapshots) == sum(
                entry.level == "tpm" and entry.window_until <= date for entry in walked.entries
            )
        for parent in dates[task.version].parents:
            assert dates[parent].window_until <= date
        if task.start.version is not None:
            assert dates[task.start.version].window_until <= date
    actr = [task for task in walked.tasks if task.level == "actr"]
    # The newest CPM by then, never the one of day 16, which is published already.
    starts = [task.start.version for task in actr if task.start.kind == "warm"]
    assert [number(dates[version].date) for version in starts] == [10, 12]


def test_a_day_is_scored_by_a_version_that_has_trained_on_none_of_its_rows(walked):
    for task in (task for task in walked.tasks if task.level == "actr"):
        trained = {path for source in task.train for path, _ in source.files}
        scored = {path for path, _ in task.score.files}
        assert trained
        assert not trained & scored
        date = next(entry.date for entry in walked.entries if entry.version == task.version)
        held = {path for path in scored if int(path.rsplit("-", 1)[1]) != number(date)}
        assert held == {f"ad_samples-lane0-{offset}" for offset in (7, 8, 9)}


def test_a_day_without_a_parent_that_ended_by_then_is_refused():
    ledger = Lanes()
    levels, arm = Levels(ledger, ledger), ARMS["ecdctr"]
    levels.tpm(day(8))
    levels.cpm(day(10), arm.twin(ledger.config))
    with pytest.raises(NotReadyError, match="no CPM version"):
        levels.actr(day(9), arm, score=True)
    with pytest.raises(NotReadyError, match="no TPM snapshot that ends by"):
        levels.cpm(day(7), arm.twin(ledger.config))
