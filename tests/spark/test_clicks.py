"""Labels from a log of clicks, against a plain loop over both logs."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ecdctr.etl.prepare import prepare
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
    end = pd.Timestamp(until)
    clicked = set()
    for click in clicks[clicks["when"] < end].itertuples():
        if by_event:
            owner = shown[shown["event_id"] == click.shown]
        else:
            owner = shown[(shown["user_id"] == click.who) & (shown["item"] == click.what)]
        owner = owner[owner["ts"] <= click.when].sort_values(["ts", "event_id"])
        if len(owner) and click.when < owner["ts"].iloc[-1] + WINDOW:
            clicked.add(owner["event_id"].iloc[-1])
    mature = shown[(shown["ts"] + WINDOW <= end)]
    return {event: int(event in clicked) for event in mature["event_id"]}


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


def test_a_day_must_stay_open_until_its_labels_are_mature_and_labels_have_one_source(make_config, tmp_path):
    source = {"path": "x", "clicks": {"path": "y", "columns": {"user": "u", "item": "i", "time": {"column": "t"}}}}
    with pytest.raises(ValidationError, match="late_window must be at least as long"):
        make_config(natural=source | {"columns": COLUMNS})
    with pytest.raises(ValidationError, match="one of the two"):
        make_config(natural=source, late_window="1d")
    with pytest.raises(ValidationError, match="one of the two"):
        make_config(natural={"path": "x", "columns": COLUMNS})
