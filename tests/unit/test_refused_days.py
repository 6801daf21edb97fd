"""What is kept of a refused day: said once, and no measure for other days."""

import datetime as dt

import pytest

from ecdctr.etl import quality
from ecdctr.etl.ingest import Ingest
from ecdctr.etl.quality import Outcome, examine, newest, unsaid
from tests.unit.test_quality import Settings, day, log

pytestmark = pytest.mark.unit


class Empty:
    def exists(self, name):
        return False


@pytest.fixture
def history(monkeypatch):
    said: list[Outcome] = []
    monkeypatch.setattr(quality, "read_outcomes", lambda lake: list(said))
    return said


def outcome(number, value, result, check="volume"):
    return Outcome("ad", day(number), check, "", value, 10.0, 2, result)


def test_the_same_word_is_said_once_and_a_new_one_again(history):
    first = outcome(3, 1.0, "fail")
    history.append(first)
    mended = outcome(3, 9.0, "ok")
    assert unsaid(None, [first, mended]) == [mended]
    history.append(mended)
    # The newest word counts: broken once more, the day is told of once more.
    assert unsaid(None, [first]) == [first]
    assert newest(history) == [mended]


def test_a_refused_day_that_left_the_log_is_no_measure_for_the_next(history):
    config = Settings(volume={"policy": "fail", "tolerance": 0.5}, new_ids={"policy": "off"})
    history += [
        outcome(1, 10.0, "ok"),
        outcome(2, 10.0, "ok"),
        outcome(3, 1000.0, "fail"),
        outcome(3, 0.5, "ok", "click_rate"),
    ]
    found = {"ad": log((None, day(4), 9, 4, {})), "natural": Ingest("natural", None, (), frozenset())}
    judged = {one.check: one for one in examine(Empty(), config, found, [day(4)], [day(4)], {}) if one.domain == "ad"}
    assert (judged["volume"].expected, judged["volume"].days, judged["volume"].outcome) == (10.0, 2, "ok")
    assert judged["click_rate"].outcome == "no_history"
    history.append(outcome(3, 12.0, "ok"))
    again = next(
        one
        for one in examine(Empty(), config, found, [day(4)], [day(4)], {})
        if one.check == "volume" and one.domain == "ad"
    )
    assert again.expected == pytest.approx(32 / 3)
    assert isinstance(again.event_date, dt.date)
