"""Each level's clock is told from its own versions alone."""

import datetime as dt

import pytest

from ecdctr.pipelines.clock import day_number, days, is_due, snapshot_dates

pytestmark = pytest.mark.unit

D = dt.date(2024, 3, 1)


def day(offset: int) -> dt.date:
    return D + dt.timedelta(days=offset)


def test_a_level_is_due_when_its_newest_version_is_as_old_as_its_clock():
    assert is_due(D, 7, [])
    assert not is_due(D, 7, [day(-6)])
    assert is_due(D, 7, [day(-7)])
    assert not is_due(D, 7, [D])


def test_a_later_version_does_not_stop_an_earlier_day_from_being_due():
    assert is_due(D, 7, [day(3)])


def test_walking_gives_versions_at_the_pace_of_the_clock():
    done: list[dt.date] = []
    for date in days(D, day(15)):
        if is_due(date, 7, done):
            done.append(date)
    assert done == [D, day(7), day(14)]


def test_the_first_snapshots_reach_back_as_far_as_the_log():
    assert snapshot_dates(D, 10, 3, [], day(-100)) == [day(-20), day(-10), D]
    assert snapshot_dates(D, 10, 3, [], day(-15)) == [day(-10), D]
    assert snapshot_dates(D, 10, 3, [day(-10)], day(-100)) == [D]
    assert snapshot_dates(D, 10, 3, [day(-9)], day(-100)) == []


def test_an_interrupted_start_goes_on_with_what_is_missing():
    """Snapshots at -20 and -10 exist, the run was killed before the one of day 0."""
    assert snapshot_dates(D, 10, 3, [day(-20), day(-10)], day(-100)) == [D]


def test_day_numbers_count_from_1970():
    assert day_number(dt.date(1970, 1, 2)) == 1
