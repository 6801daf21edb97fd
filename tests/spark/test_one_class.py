"""Logs with a day of one class, and with ads of one day alone."""

import datetime as dt

import pytest

from ecdctr.etl.prepare import prepare
from ecdctr.lake.tables import Lake

pytestmark = pytest.mark.spark

START = dt.date(2024, 1, 1)


def test_a_day_of_one_class_and_ads_of_one_day_alone_are_prepared(spark, make_config, write_logs):
    def change(domain, frame):
        if domain == "ad":
            return frame[frame["ts"].dt.date == START].reset_index(drop=True)
        day = frame["ts"].dt.day
        return frame.assign(click=frame["click"].where(day != 2, 0).where(day != 3, 1))

    write_logs(days=3, change=change)
    features = [
        {"name": "clicked", "kind": "sequence", "length": 2},
        {"name": "item", "kind": "rate", "of": ["item_id"]},
    ]
    config = make_config(features=features)
    summary = prepare(spark, config, None)
    assert summary.rows == {"natural": 120, "ad": 10}
    rows = (
        Lake(spark, config.warehouse_dir).read("natural_samples").groupBy("event_date").agg({"label": "avg"}).collect()
    )
    rates = {row["event_date"].day: row["avg(label)"] for row in rows}
    assert (rates[2], rates[3], 0 < rates[1] < 1) == (0.0, 1.0, True)
