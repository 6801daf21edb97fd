"""Which days a preparation writes: new ones, open ones that have changed, and none that is closed."""

import dataclasses
import datetime as dt

import pytest

from ecdctr.etl.facts import Fact
from ecdctr.etl.ingest import Ingest
from ecdctr.etl.preparation import Note, make_plan

pytestmark = pytest.mark.unit


def day(number):
    return dt.date(2024, 1, number)


def log(*rows, domain="natural"):
    facts = tuple(Fact(file, "stamp", None, day(number), count, digest, 0, {}) for file, number, count, digest in rows)
    return Ingest(domain, None, facts, frozenset())


LOG = [("a", 1, 10, 100), ("b", 2, 10, 200), ("c", 3, 10, 300), ("d", 4, 10, 400)]


def plan(now, before=LOG, **more):
    settings = {"done": day(5), "closed": day(3), "until": None} | more
    return make_plan({"natural": log(*now)}, {"natural": log(*before).facts}, **settings)


def test_the_first_preparation_writes_all_days_before_its_date():
    first = plan(LOG, [], done=None, closed=None, until=day(4))
    assert (first.since, first.until, first.new, first.changed, first.late) == (
        day(1), day(4), (day(1), day(2), day(3)), (), {},
    )  # fmt: skip
    assert first.rest
    assert not plan(LOG, [], done=None, closed=None).rest
    assert make_plan({"natural": log()}, {}, done=None, closed=None, until=None) is None
    assert plan(LOG, [], done=None, closed=None, until=day(1)).since is None


def test_the_same_rows_in_other_files_are_no_change():
    assert plan([("x", 1, 4, 40), ("y", 1, 6, 60), *LOG[1:]]).since is None


def test_new_rows_of_open_days_are_written_and_of_closed_days_are_late():
    changed = plan([*LOG, ("e", 3, 1, 7), ("e", 5, 9, 9), ("e", 2, 1, 8)])
    assert (changed.since, changed.until) == (day(3), day(6))
    assert (changed.new, changed.changed) == ((day(5),), (day(3),))
    assert changed.late == {"natural": (day(2),)}
    late_alone = plan([*LOG, ("e", 2, 1, 8)])
    assert (late_alone.since, late_alone.late) == (None, {"natural": (day(2),)})


def test_a_day_that_lies_below_the_date_asked_for_never_takes_prepared_days_back():
    assert plan([*LOG, ("e", 4, 1, 7)], until=day(3)).until == day(5)


@pytest.mark.parametrize(
    ("asked", "maturing", "until", "as_of"), [(20, 0, 5, 5), (20, 1, 5, 6), (6, 2, 5, 6), (4, 1, 4, 4), (None, 1, 5, 5)]
)
def test_days_that_no_log_has_come_to_are_not_prepared_while_clicks_of_them_may_be_known(asked, maturing, until, as_of):
    first = plan(LOG, [], done=None, closed=None, until=asked and day(asked), ripening={"natural": maturing})
    assert (first.until, first.new[-1], first.as_of) == (day(until), day(until - 1), day(as_of))


def test_a_day_that_left_the_log_is_nothing_to_write():
    assert plan(LOG[2:]).since is None
    assert plan(LOG[:3]).since is None


def test_labels_that_come_from_clicks_are_looked_at_anew_while_their_day_is_open():
    found = {"natural": log(*LOG)}
    joined = make_plan(
        found, {"natural": log(*LOG).facts}, done=day(5), closed=day(3), until=None, ripening={"natural": 1}
    )
    assert joined.changed == (day(3), day(4))


def test_days_that_a_broken_preparation_has_closed_are_held_against_the_tables():
    # Ids were given by days up to 4 while the samples ended with day 2.
    broken = plan(LOG, LOG[:2], done=day(3), closed=day(5))
    assert (broken.new, broken.late) == ((day(3), day(4)), {"natural": (day(3), day(4))})


def test_a_plan_is_known_by_its_days_and_files_and_a_note_comes_back():
    one, other = log(*LOG), log(*LOG, ("e", 4, 1, 1))
    first = plan(LOG)
    assert first.digest([one]) == plan(LOG).digest([one])
    assert first.digest([one]) != first.digest([other])
    assert first.digest([one]) != dataclasses.replace(first, since=day(1)).digest([one])
    note = Note(3, day(1), day(5), None, "plan", None, True)
    assert Note.from_json(note.to_json()) == note
