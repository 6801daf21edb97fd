"""What a log holds after files and single rows came and went."""

import datetime as dt

import pytest

from ecdctr.etl.delta_source import GIVEN, TAKEN
from ecdctr.etl.facts import CHANGES, Day, Fact, days_of, unchanged, with_changes

pytestmark = pytest.mark.unit

FIRST, SECOND = dt.date(2024, 1, 1), dt.date(2024, 1, 2)


def fact(file, day, rows, digest, clicks=0, nulls=None, reason=None):
    return Fact(file, "s", reason, day, rows, digest, clicks, nulls or {})


def test_files_that_are_as_they_were_are_known_by_their_stamps():
    known = [fact("a", FIRST, 1, 1), fact("b", FIRST, 1, 1), fact("gone", FIRST, 1, 1)]
    same, fresh = unchanged(known, {"a": "s", "b": "other", "c": "s"})
    assert (same, fresh) == (known[:1], {"b", "c"})


def test_rows_that_came_and_went_are_counted_in_and_out():
    known = [fact("a", FIRST, 3, 30, 1, {"x": 2}), fact("a", SECOND, 1, 5)]
    moved = [fact(TAKEN, FIRST, 1, 10, 1, {"x": 1}), fact(GIVEN, FIRST, 1, 11, 0, {"y": 1}), fact(TAKEN, SECOND, 1, 5)]
    after = with_changes(known, moved, "t")
    assert days_of(after) == {FIRST: Day(3, 31)}
    (changes,) = [found for found in after if found.file == CHANGES and found.event_date == FIRST]
    assert (changes.clicks, changes.nulls, changes.stamp) == (-1, {"x": -1, "y": 1}, "t")
    # A second change that undoes the first leaves what was there, and nothing beside it.
    back = [fact(GIVEN, FIRST, 1, 10, 1, {"x": 1}), fact(TAKEN, FIRST, 1, 11, 0, {"y": 1}), fact(GIVEN, SECOND, 1, 5)]
    assert with_changes(after, back, "u") == known


def test_bad_rows_that_were_mended_upstream_are_bad_no_longer():
    known = [fact("a", FIRST, 2, 9, reason="label")]
    after = with_changes(known, [fact(TAKEN, FIRST, 2, 9, reason="label"), fact(GIVEN, FIRST, 2, 8)], "t")
    assert sum(found.rows for found in after if found.reason) == 0
    assert days_of(after) == {FIRST: Day(2, 8)}
