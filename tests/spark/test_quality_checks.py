"""A day out of bounds: refused with its figures, kept in the history, mended or put aside; and what hooks hear of it."""

import datetime as dt

import pandas as pd
import pytest

from ecdctr.etl.prepare import prepare
from ecdctr.etl.quality import read_outcomes
from ecdctr.exceptions import InputError
from ecdctr.hooks import Hook, HookError, Hooks
from ecdctr.lake.tables import Lake

pytestmark = pytest.mark.spark

START = dt.date(2024, 1, 1)
DAY = dt.timedelta(days=1)
LAST = START + 4 * DAY
CHECKS = {"volume": 0.8, "click_rate": 0.8, "null_rate": 0.3, "new_ids": 0.3}
"""Tolerances; ads of a day are few, so that their figures move."""
ROWS = 3


class Recorder(Hook):
    def __init__(self):
        self.heard = []

    def before_day(self, event):
        self.heard.append(("before_day", event.day, event.rows))

    def after_quality(self, event):
        self.heard.append(("after_quality", {outcome["event_date"] for outcome in event.outcomes}))

    def after_table_commit(self, event):
        self.heard.append(("after_table_commit", event.table))

    def on_quarantine(self, event):
        self.heard.append(("on_quarantine", event.rows, event.reasons))


def spoiled(domain, frame):
    """The last natural day has few rows, no click, no price, and items and users that nobody has seen."""
    if domain == "ad":
        return frame.assign(price=1.0, category="a")
    frame = frame.assign(price=1.0, category="a")
    last = frame["ts"].dt.date == LAST
    kept = frame[~last | (frame.index >= frame.index[last][-ROWS])].copy()
    last = kept["ts"].dt.date == LAST
    kept.loc[last, "item"] = [f"new{place}" for place in range(ROWS)]
    kept.loc[last, "user_id"] = range(ROWS)
    kept.loc[last, "click"] = 0
    kept.loc[last, "price"] = float("nan")
    return kept


def settings(**policies):
    rules = {name: {"policy": policies.get(name, "warn"), "tolerance": share} for name, share in CHECKS.items()}
    return {"quality": rules | {"trailing": 7, "least_days": 1}}


def test_a_refused_day_is_in_the_history_alone_until_it_is_mended_or_put_aside(spark, make_config, write_logs):
    write_logs(days=5, change=spoiled)
    features = [{"name": "price", "kind": "number"}]
    config = make_config(features=features, top=settings(**dict.fromkeys(CHECKS, "fail")))
    lenient = make_config(features=features, top=settings())
    prepare(spark, lenient, LAST)
    lake = Lake(spark, config.warehouse_dir)
    names = [info.name for info in lake.describe() if info.name not in ("data_quality", "intake")]
    before = {name: lake.version(name) for name in names}
    history = len(read_outcomes(lake))
    heard = Recorder()
    with pytest.raises(InputError) as caught:
        prepare(spark, config, None, Hooks(given=[heard]))
    message = str(caught.value)
    for words in (f"natural {LAST}: click_rate is 0,", "new_ids of item_id is 1,", "rows of that day: natural-"):
        assert words in message
    assert "data_quality has the figures" in message
    assert {name: lake.version(name) for name in names} == before
    assert heard.heard == []
    refused = read_outcomes(lake)[history:]
    failed = {one.check: one for one in refused if (one.domain, one.outcome) == ("natural", "fail")}
    assert set(failed) == set(CHECKS)
    assert {one.event_date for one in refused} == {LAST}
    assert (failed["volume"].value, failed["volume"].expected, failed["volume"].days) == (ROWS, 40.0, 4)
    assert failed["null_rate"].value == 1.0

    aside = make_config(features=features, top=settings(volume="quarantine"))
    summary = prepare(spark, aside, None, Hooks(given=[heard]))
    assert (summary.quarantined, summary.rows) == (ROWS, {"natural": 0, "ad": 10})
    assert ("on_quarantine", ROWS, {"quality: volume": ROWS}) in heard.heard
    assert ("before_day", LAST, {"natural": ROWS, "ad": 10}) in heard.heard
    assert ("after_quality", {LAST}) in heard.heard
    written = [each[1] for each in heard.heard if each[0] == "after_table_commit"]
    assert written[-1] == "ad_samples"
    assert set(written) >= {"ad_impressions", "natural_samples"}
    newest = {
        one.check: one.outcome for one in read_outcomes(lake) if (one.domain, one.event_date) == ("natural", LAST)
    }
    assert (newest["volume"], newest["click_rate"]) == ("quarantine", "warn")


def test_a_gate_that_closes_leaves_its_reasons_in_the_history(spark, make_config, write_logs):
    write_logs(days=2)

    class Gate(Hook):
        fails_step = True

        def after_quality(self, event):
            raise ValueError("closed today")

    config = make_config(features=[])
    with pytest.raises(HookError, match="closed today"):
        prepare(spark, config, None, Hooks(given=[Gate()]))
    lake = Lake(spark, config.warehouse_dir)
    assert [info.name for info in lake.describe()] == ["data_quality"]
    assert {one.event_date for one in read_outcomes(lake)} == {START, START + DAY}


def test_a_day_put_aside_stays_aside_when_an_earlier_one_is_written_again(spark, make_config, write_logs):
    config = make_config(
        features=[{"name": "price", "kind": "number"}], top=settings(volume="quarantine"), late_window="3d"
    )
    write_logs(days=5, change=spoiled)
    assert prepare(spark, config, None).quarantined >= ROWS
    lake = Lake(spark, config.warehouse_dir)
    assert lake.read("natural_impressions").where(f"event_date = '{LAST}'").count() == 0

    def with_a_late_row(domain, frame):
        frame = spoiled(domain, frame)
        late = frame[frame["ts"].dt.date == LAST - dt.timedelta(days=1)].head(1).assign(event_id=f"late-{domain}")
        return pd.concat([frame, late], ignore_index=True)

    write_logs(days=5, change=with_a_late_row)
    assert prepare(spark, config, None).changed == 1
    rows = lake.read("natural_impressions")
    assert rows.where(f"event_date = '{LAST}'").count() == 0
    assert rows.where("event_id = 'late-natural'").count() == 1
