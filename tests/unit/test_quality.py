"""Checks of a day against the days before it, on counts as the logs give them."""

import datetime as dt

import pytest

from ecdctr.config.operations import QualityConfig
from ecdctr.etl.facts import Fact
from ecdctr.etl.ingest import Ingest
from ecdctr.etl.quality import figures, judge, put_aside

pytestmark = pytest.mark.unit


class Settings:
    def __init__(self, **rules):
        self.quality = QualityConfig.model_validate({"trailing": 4, "least_days": 2} | rules)


def day(number):
    return dt.date(2024, 1, number)


def log(*rows):
    facts = [Fact("f", "s", reason, when, count, 0, clicks, nulls) for reason, when, count, clicks, nulls in rows]
    return Ingest("ad", None, tuple(facts), frozenset())


def outcomes(config, values, days, check="volume", earlier=()):
    measured = {day(number): {(check, ""): value} for number, value in values.items()}
    history = {("ad", check, ""): {day(number): value for number, value in dict(earlier).items()}}
    return [
        (o.event_date.day, o.expected, o.days, o.outcome)
        for o in judge("ad", config, measured, history, map(day, days))
    ]


def test_figures_are_those_of_the_good_rows_over_all_files():
    found = log(
        (None, day(1), 6, 3, {"price": 3}), (None, day(1), 2, 1, {}), ("bad", day(1), 9, 9, {}), (None, day(2), 4, 0, {}),
        ("bad", None, 1, 0, {}),
    )  # fmt: skip
    assert figures(found) == {
        day(1): {("volume", ""): 8.0, ("click_rate", ""): 0.5, ("null_rate", "price"): 0.375},
        day(2): {("volume", ""): 4.0, ("click_rate", ""): 0.0, ("null_rate", "price"): 0.0},
    }
    unlabelled = figures(log((None, day(1), 6, 0, {"label": 6})))
    assert unlabelled == {day(1): {("volume", ""): 6.0}}


def test_a_day_is_compared_with_the_trailing_days_alone():
    rule = {"volume": {"policy": "fail", "tolerance": 0.5}}
    values = {1: 1000.0, 2: 10.0, 3: 10.0, 4: 14.0, 5: 6.0, 6: 4.9}
    assert outcomes(Settings(**rule), values, [1, 2, 3, 6]) == [
        (1, None, 0, "no_history"), (2, None, 1, "no_history"), (3, 505.0, 2, "fail"), (6, 10.0, 4, "fail"),
    ]  # fmt: skip
    assert outcomes(Settings(**rule), values | {6: 5.0}, [6])[0][-1] == "ok"
    assert outcomes(Settings(volume={"policy": "off"}), values, [6]) == []
    # Days that have left the log are known from the table.
    assert outcomes(Settings(**rule), {6: 5.0}, [6], earlier={4: 20.0, 5: 10.0, 1: 999.0}) == [(6, 15.0, 2, "fail")]


def test_rates_of_missing_values_differ_absolutely_and_a_rate_of_nothing_is_no_division():
    rule = {"null_rate": {"policy": "warn", "tolerance": 0.1}, "click_rate": {"policy": "warn", "tolerance": 0.5}}
    values = {1: 0.0, 2: 0.0, 3: 0.09, 4: 0.2}
    assert [o[-1] for o in outcomes(Settings(**rule), values, [3, 4], "null_rate")] == ["ok", "warn"]
    assert [o[-1] for o in outcomes(Settings(**rule), values, [3], "click_rate")] == ["warn"]
    assert [o[-1] for o in outcomes(Settings(**rule), values | {3: 0.0}, [3], "click_rate")] == ["ok"]


def test_days_put_aside_name_their_checks():
    rules = {name: {"policy": "quarantine", "tolerance": 0.1} for name in ("volume", "click_rate")}
    measured = {day(n): {("volume", ""): 9.0, ("click_rate", ""): 0.5} for n in (1, 2)}
    measured[day(3)] = {("volume", ""): 1.0, ("click_rate", ""): 0.0}
    found = judge("ad", Settings(**rules), measured, {}, [day(3)])
    assert list(put_aside(found)) == [("ad", day(3), "quality: click_rate, volume")]
