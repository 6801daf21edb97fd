"""E-CDCTR day by day: when the ad model goes on, when it starts again and replays, and which snapshots it reads."""

import pytest

from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.levels import Levels
from tests.unit.test_levels_baselines import Ledger, day, days_of

pytestmark = pytest.mark.unit

TPM, CPM = (6, 8, 11), (10, 13)


def walk(*overrides: str, arm: str = "ecdctr"):
    """TPM of days 6, 8 and 11, CPM of days 10 and 13, the ad model of days 10 to 14."""
    ledger = Ledger(*overrides)
    levels = Levels(ledger, ledger)
    for offset in range(6, 15):
        if offset in TPM:
            levels.tpm(day(offset))
        if offset in CPM:
            levels.cpm(day(offset), ARMS[arm].twin(ledger.config))
        if offset >= 10:
            levels.actr(day(offset), ARMS[arm], score=True)
    by_level = {level: [task for task in ledger.tasks if task.level == level] for level in ("tpm", "cpm", "actr")}
    return ledger, by_level


def read(task) -> list[str]:
    return [snapshot.version.split("-2024-01-")[1][:2] for snapshot in task.history.snapshots]


def test_a_day_goes_on_with_its_new_rows_alone_and_a_new_cpm_is_replayed():
    ledger, tasks = walk()
    assert [task.start.kind for task in tasks["actr"]] == ["warm", "continue", "continue", "warm", "continue"]
    # A window of 3 days is replayed; a day that goes on reads the day before alone.
    assert [days_of(task.train[0]) for task in tasks["actr"]] == [[7, 8, 9], [10], [11], [10, 11, 12], [13]]
    first, second = (task.version for task in tasks["cpm"])
    versions = [task.version for task in tasks["actr"]]
    assert [task.start.version for task in tasks["actr"]] == [first, versions[0], versions[1], second, versions[3]]
    assert [days_of(task.score) for task in tasks["actr"]] == [[10], [11], [12], [13], [14]]
    assert {task.start.batch_norm for task in tasks["actr"] if task.start.kind == "warm"} == {"full"}
    published = {entry.version: entry.parents for entry in ledger.entries}
    assert second in published[versions[4]]
    assert versions[2] not in published[versions[3]]


def test_a_new_snapshot_is_read_from_its_day_on():
    _, tasks = walk()
    assert [read(task) for task in tasks["cpm"]] == [["07", "09"], ["07", "09", "12"]]
    assert [read(task) for task in tasks["actr"]] == [["07", "09"], *[["07", "09", "12"]] * 4]


def test_pinned_snapshots_move_with_a_retrained_cpm_alone():
    ledger, tasks = walk("transfer.pin_snapshots=true")
    assert [read(task) for task in tasks["actr"]] == [*[["07", "09"]] * 3, *[["07", "09", "12"]] * 2]
    published = {entry.version: entry.parents for entry in ledger.entries}
    for task in tasks["actr"]:
        assert task.history.snapshots[-1].version in published[task.version]


def test_pinned_snapshots_without_a_cpm_are_those_of_the_first_day():
    _, tasks = walk("transfer.pin_snapshots=true", arm="ecdctr_no_cpm")
    assert [task.start.kind for task in tasks["actr"]] == ["scratch", *["continue"] * 4]
    assert [read(task) for task in tasks["actr"]] == [["07", "09"]] * 5


def test_pinning_is_no_business_of_the_levels_above():
    plain, pinned = (Ledger(*more).config for more in ((), ("transfer.pin_snapshots=true",)))
    assert plain.model_digest("cpm") == pinned.model_digest("cpm")
    assert plain.model_digest("actr") != pinned.model_digest("actr")
