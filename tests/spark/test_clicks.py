"""Labels from a log of clicks, against a plain loop over both logs."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from pyspark.sql import functions as F

from ecdctr.etl.prepare import prepare
from ecdctr.etl.quality import newest, read_outcomes
from ecdctr.exceptions import InputError
from ecdctr.lake.tables import Lake

pytestmark = pytest.mark.spark

DAY = dt.timedelta(days=1)
START = dt.date(2024, 1, 1)
HOUR = pd.Timedelta(hours=1)
WINDOW = 3 * HOUR
COLUMNS = {"user": "user_id", "item": "item", "time": {"column": "ts"}, "event_id": ["event_id"]}
FEATURES = [{"name": "category", "kind": "id"}]


def click_log(shown, days):
    """Clicks by the users and on the items of the log, at its whole hours and between them; some lead nowhere."""
    rng = np.random.default_rng(5)
    rows = shown.iloc[rng.integers(0, len(shown), 3 * len(shown) // 2)]
    after = pd.to_timedelta(rng.choice([-60, 0, 0, 59, 60, 179, 180, 181, 400], len(rows)), unit="min")
    clicks = pd.DataFrame(
        {"who": rows["user_id"].to_numpy(), "what": rows["item"].to_numpy(), "when": rows["ts"] + after}
    )
    clicks["shown"] = rows["event_id"].to_numpy()
    return clicks[clicks["when"] >= pd.Timestamp(START)].reset_index(drop=True)


def expected(shown, clicks, until, by_event):
    """Event id → label of the impressions whose window has ended."""
    clicked = clicked_at(shown, clicks, until, by_event)
    mature = shown[(shown["ts"] + WINDOW <= pd.Timestamp(until))]
    return {event: int(event in clicked) for event in mature["event_id"]}


def clicked_at(shown, clicks, until, by_event):
    """Event id → when it was first clicked, of those that were."""
    end = pd.Timestamp(until)
    clicked = {}
    for click in clicks[clicks["when"] < end].itertuples():
        if by_event:
            owner = shown[shown["event_id"] == click.shown]
        else:
            owner = shown[(shown["user_id"] == click.who) & (shown["item"] == click.what)]
        owner = owner[owner["ts"] <= click.when].sort_values(["ts", "event_id"])
        if len(owner) and click.when < owner["ts"].iloc[-1] + WINDOW:
            event = owner["event_id"].iloc[-1]
            clicked[event] = min(click.when, clicked.get(event, click.when))
    return clicked


@pytest.mark.parametrize("by_event", [False, True], ids=["by user and item", "by event id"])
def test_a_click_belongs_to_the_latest_impression_and_labels_ripen(spark, make_config, write_logs, tmp_path, by_event):
    frames = write_logs(3)
    shown = frames["natural"]
    clicks = click_log(shown, 3)
    path = tmp_path / "raw" / "clicks.parquet"
    clicks.to_parquet(path, coerce_timestamps="us", index=False)
    columns = {"user": "who", "item": "what", "time": {"column": "when"}} | ({"event_id": "shown"} if by_event else {})
    source = {
        "path": str(tmp_path / "raw" / "natural.parquet"), "columns": COLUMNS,
        "clicks": {"path": str(path), "columns": columns, "window": "3h"},
    }  # fmt: skip
    config = make_config(natural=source, late_window="1d", features=FEATURES)
    lake = Lake(spark, config.warehouse_dir)
    for until in (START + 2 * DAY, START + 3 * DAY):
        prepare(spark, config, until)
        days = shown[shown["ts"] < pd.Timestamp(until)]
        labels = {row["event_id"]: row["label"] for row in lake.read("natural_impressions").collect()}
        wanted = expected(days, clicks, until, by_event)
        assert labels == wanted
        assert 0 < sum(labels.values()) < len(labels) < len(days)


def test_nobody_knows_of_a_click_before_it_came(spark, make_config, write_logs, tmp_path):
    shown = write_logs(4)["natural"]
    evening = shown[shown["ts"].dt.hour >= 22]
    after_midnight = pd.DataFrame(
        {"who": evening["user_id"], "what": evening["item"], "when": evening["ts"] + 5 * HOUR / 2}
    )
    clicks = pd.concat([click_log(shown, 4), after_midnight], ignore_index=True)
    path = tmp_path / "raw" / "clicks.parquet"
    clicks.to_parquet(path, coerce_timestamps="us", index=False)
    source = {
        "path": str(tmp_path / "raw" / "natural.parquet"), "columns": COLUMNS,
        "clicks": {"path": str(path), "columns": {"user": "who", "item": "what", "time": {"column": "when"}}, "window": "3h"},
    }  # fmt: skip
    features = [
        {"name": "clicked", "kind": "sequence", "length": 200, "domains": ["natural"]},
        {
            "name": "of_user",
            "kind": "rate",
            "of": ["user_id"],
            "windows": ["2d"],
            "domains": ["natural"],
            "strength": 3,
        },
    ]
    config = make_config(natural=source, late_window="1d", features=features)
    until = START + 4 * DAY
    prepare(spark, config, until)
    when = clicked_at(shown, clicks, until, by_event=False)
    known = shown[shown["ts"] + WINDOW <= pd.Timestamp(until)].assign(at=lambda rows: rows["event_id"].map(when))
    assert (known["at"].dt.normalize() > known["ts"].dt.normalize()).any(), (
        "a click after midnight, or nothing is tried here"
    )
    samples = Lake(spark, config.warehouse_dir).read("natural_samples").toPandas().set_index("event_id")
    for row in known.itertuples():
        own = known[known["user_id"] == row.user_id]
        found = samples.loc[row.event_id]
        assert np.count_nonzero(found["clicked"]) == (own["at"] < row.ts).sum()
        end = row.ts.normalize()
        begin = end - 2 * DAY

        def within(times, begin=begin, end=end):
            return ((times >= begin) & (times < end)).sum()

        mean = within(known["at"]) / max(within(known["ts"]), 1)
        rate = (within(own["at"]) + 3 * mean) / (within(own["ts"]) + 3)
        assert found["of_user_rate_2d"] == pytest.approx(rate, rel=1e-6)
        assert found["of_user_impressions_2d"] == pytest.approx(np.log1p(within(own["ts"])), rel=1e-6)


def test_a_day_must_stay_open_until_its_labels_are_mature_and_labels_have_one_source(make_config, tmp_path):
    source = {"path": "x", "clicks": {"path": "y", "columns": {"user": "u", "item": "i", "time": {"column": "t"}}}}
    with pytest.raises(ValidationError, match="late_window must be at least as long"):
        make_config(natural=source | {"columns": COLUMNS})
    with pytest.raises(ValidationError, match="one of the two"):
        make_config(natural=source, late_window="1d")
    with pytest.raises(ValidationError, match="one of the two"):
        make_config(natural={"path": "x", "columns": COLUMNS})
    with pytest.raises(ValidationError, match="'clicked_at'"):
        make_config(
            natural=source | {"columns": COLUMNS}, late_window="1d", features=[{"name": "clicked_at", "kind": "id"}]
        )


@pytest.mark.parametrize(("event_id", "found"), [([], "names none"), (["event_id", "item"], "names event_id, item")])
def test_clicks_that_name_an_event_are_refused_where_no_single_column_does(make_config, event_id, found):
    columns = {"user": "who", "item": "what", "time": {"column": "when"}, "event_id": "shown"}
    source = {"path": "x", "clicks": {"path": "y", "columns": columns}, "columns": COLUMNS | {"event_id": event_id}}
    with pytest.raises(ValidationError, match=f"{found}; name that one column there, or leave out"):
        make_config(natural=source, late_window="1d")
    make_config(natural=source | {"columns": COLUMNS}, late_window="1d")


def test_a_day_s_click_rate_is_judged_when_its_labels_are_mature(spark, make_config, write_logs, tmp_path):
    steady = write_logs(5, lambda domain, frame: frame.assign(click=[place % 2 for place in range(len(frame))]))
    shown = steady["natural"]
    silent = START + 2 * DAY
    clicks = click_log(shown, 5)
    clicks = clicks[~clicks["shown"].isin(shown.loc[shown["ts"].dt.date == silent, "event_id"])]
    path = tmp_path / "raw" / "clicks.parquet"
    clicks.to_parquet(path, coerce_timestamps="us", index=False)
    source = {
        "path": str(tmp_path / "raw" / "natural.parquet"), "columns": COLUMNS,
        "clicks": {
            "path": str(path), "window": "3h",
            "columns": {"user": "who", "item": "what", "time": {"column": "when"}, "event_id": "shown"},
        },
    }  # fmt: skip
    off = {key: {"policy": "off"} for key in ("volume", "null_rate", "new_ids")}

    def config(policy):
        rule = {"policy": policy, "tolerance": 0.8}
        quality = off | {"click_rate": rule, "least_days": 1}
        return make_config(natural=source, late_window="1d", features=FEATURES, top={"quality": quality})

    lake = Lake(spark, config("fail").warehouse_dir)

    def judged():
        return {one.event_date: one for one in newest(read_outcomes(lake)) if one.domain == "natural"}

    def of_table(day):
        rows = lake.read("natural_impressions").where(F.col("event_date") == F.lit(day))
        return {row["event_id"]: row["label"] for row in rows.select("event_id", "label").collect()}

    # The silent day is the last one: some of its labels are still to come, so that it is no matter of concern yet.
    prepare(spark, config("fail"), silent + DAY)
    assert set(judged()) == {START, START + DAY}
    labels = expected(shown, clicks, silent + DAY, by_event=True)
    of_day = shown[shown["ts"].dt.date == START + DAY]["event_id"]
    assert judged()[START + DAY].value == pytest.approx(sum(labels[event] for event in of_day) / len(of_day))
    before = lake.version("natural_impressions")
    with pytest.raises(InputError, match=rf"natural {silent}: click_rate is 0, .* over the 2 days before; rows of"):
        prepare(spark, config("fail"), silent + 2 * DAY)
    assert lake.version("natural_impressions") == before
    assert judged()[silent].outcome == "fail"
    kept = of_table(silent)
    # Put aside, the day stays as it is in the table; the days after it are compared with the mature days before.
    summary = prepare(spark, config("quarantine"), silent + 3 * DAY)
    assert summary.quarantined == (shown["ts"].dt.date == silent).sum()
    assert of_table(silent) == kept
    assert (judged()[silent].outcome, judged()[silent + DAY].outcome) == ("quarantine", "ok")
    assert judged()[silent + DAY].days == 3
