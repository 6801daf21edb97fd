"""Logs as they really come: late, doubled, out of order. The tables end as if all had come in order, each once."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ecdctr.etl import ingest
from ecdctr.etl import prepare as preparation
from ecdctr.etl.intake import read_intake
from ecdctr.etl.notes import prepared_until
from ecdctr.etl.prepare import prepare
from ecdctr.lake.tables import Lake

pytestmark = pytest.mark.spark

DAY = dt.timedelta(days=1)
START = dt.date(2024, 1, 1)
WINDOW = 4
FILES = {"natural": "natural", "ad": "ads"}


@pytest.fixture
def feed(tmp_path):
    """Writes rows of one domain as a further file of its log."""

    def write(domain, name, rows):
        file = tmp_path / "raw" / FILES[domain] / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        # A column without any value would be written without a type.
        rows = rows.astype({"category": "string", "last_category": "string"})
        rows.to_parquet(file, coerce_timestamps="us", index=False)

    return write


@pytest.fixture
def logs(make_config, tmp_path):
    """A configuration of logs in folders."""

    def make(name, **dataset):
        sources = {key: {"path": str(tmp_path / "raw" / key)} for key in ("natural", "ads")}
        return make_config(name, **({"late_window": f"{WINDOW}d"} | sources | dataset))

    return make


@pytest.fixture
def world(write_logs):
    """The clean rows of some days, by domain."""

    def make(days):
        return write_logs(days)

    return make


def content(lake):
    found = {}
    for domain in FILES:
        files = lake.pin(f"{domain}_samples").files
        rows = pd.concat([pq.ParquetFile(file.path).read().to_pandas() for file in files], ignore_index=True)
        found[domain] = rows.sort_values("event_id", ignore_index=True)
    words = lake.read("vocabulary").toPandas()
    return found | {"vocabulary": words.sort_values(["field", "id"], ignore_index=True)}


def assert_same(one, other):
    for name in one:
        pd.testing.assert_frame_equal(one[name], other[name])


def batches(rows, days, rng):
    """Rows by the batch they come in: 3 % come one or two days late, 5 % come again."""
    day = (rows["ts"].dt.date - START).map(lambda span: span.days).to_numpy()
    late = np.where(rng.random(len(rows)) < 0.03, rng.integers(1, 3, len(rows)), 0)
    comes = np.minimum(day + late, days - 1)
    again = rng.choice(len(rows), max(1, len(rows) // 20), replace=False)
    return {
        number: pd.concat([rows[comes == number], rows.iloc[again[comes[again] == number]]], ignore_index=True)
        for number in range(days)
    }


@pytest.mark.parametrize(
    ("days", "every"),
    [
        pytest.param(8, 2, marks=pytest.mark.timeout(600)),
        pytest.param(30, 1, marks=[pytest.mark.campaign, pytest.mark.timeout(3600)]),
    ],
)
def test_late_doubled_and_swapped_days_give_the_samples_and_ids_of_days_in_order(
    spark, world, feed, logs, tmp_path, days, every
):
    def folders(name):
        return {key: {"path": str(tmp_path / "raw" / key / name)} for key in ("natural", "ads")}

    frames = world(days)
    for domain, rows in frames.items():
        feed(domain, "order/all", rows)
    config = logs("in_order", **folders("order"))
    prepare(spark, config, None)
    expected = content(Lake(spark, config.warehouse_dir))

    config = logs("as_it_comes", **folders("come"))
    parts = {domain: batches(rows, days, np.random.default_rng(len(domain))) for domain, rows in frames.items()}
    order = list(range(days))
    order[3], order[4] = order[4], order[3]
    order.insert(6, 5)
    assert (len(order) - 1) % every == 0
    for place, number in enumerate(order):
        for domain in FILES:
            if len(parts[domain][number]):
                feed(domain, f"come/{place:02}", parts[domain][number])
        if place % every == 0:
            prepare(spark, config, None)
    lake = Lake(spark, config.warehouse_dir)
    assert not lake.exists("quarantine")
    assert prepared_until(lake) == START + days * DAY
    assert_same(expected, content(lake))

    counts: dict[str, int] = {}
    earned: dict[str, dt.date] = {}
    shown = pd.concat(frames.values()).sort_values("ts")
    for moment, item in zip(shown["ts"], shown["item"], strict=True):
        counts[item] = counts.get(item, 0) + 1
        if counts[item] == 3:
            earned[item] = moment.date()
    words = expected["vocabulary"]
    admitted = words[words["field"] == "item_id"].set_index("token")["admitted"].to_dict()
    assert admitted == {item: day + WINDOW * DAY for item, day in earned.items() if day < START + (days - WINDOW) * DAY}


def test_rows_of_closed_days_are_put_aside_and_change_nothing(spark, world, feed, logs):
    frames = world(4)
    config = logs("closed", late_window="1d")
    for domain, rows in frames.items():
        feed(domain, "first", rows)
    prepare(spark, config, None)
    lake = Lake(spark, config.warehouse_dir)
    before = content(lake)
    versions = {name: lake.version(name) for name in ("natural_samples", "vocabulary")}
    late = frames["natural"].iloc[[0]].assign(event_id="late-1")
    doubled = frames["natural"].iloc[[1]]
    feed("natural", "second", pd.concat([late, doubled]))
    summary = prepare(spark, config, None)
    assert (summary.days, summary.changed, summary.quarantined) == (0, 0, 1)
    (row,) = lake.read("quarantine").collect()
    assert (row["reason"], row["domain"], row["event_date"]) == ("late", "natural", START)
    assert '"event_id":"late-1"' in row["row"]
    assert {name: lake.version(name) for name in versions} == versions
    assert prepare(spark, config, None).quarantined == 0
    # A day that is still open takes what comes, and days before it stay as they are.
    more = frames["natural"].iloc[[-1]].assign(event_id="late-2")
    feed("natural", "third", more)
    summary = prepare(spark, config, None)
    assert (summary.days, summary.changed, summary.since) == (0, 1, START + 3 * DAY)
    after = content(lake)
    assert set(after["natural"]["event_id"]) - set(before["natural"]["event_id"]) == {"late-2"}
    pd.testing.assert_frame_equal(before["vocabulary"], after["vocabulary"])


def test_only_files_that_were_not_seen_are_read_and_days_that_left_the_log_stay(
    spark, world, feed, logs, tmp_path, monkeypatch
):
    frames = world(4)
    config = logs("files", late_window="2d")
    for domain, rows in frames.items():
        for number in range(3):
            feed(domain, f"day-{number}", rows[rows["ts"].dt.date == START + number * DAY])
    prepare(spark, config, None)
    lake = Lake(spark, config.warehouse_dir)
    assert {fact.file.rsplit("/", 1)[1] for fact in read_intake(lake)["natural"]} == {
        f"day-{number}.parquet" for number in range(3)
    }
    looked = []
    real = ingest.look_through
    monkeypatch.setattr(preparation.ingest, "look_through", lambda *args: looked.append(real(*args)) or looked[-1])
    for domain in FILES:
        (tmp_path / "raw" / FILES[domain] / "day-2.parquet").unlink()
    for domain, rows in frames.items():
        feed(domain, "day-3", rows[rows["ts"].dt.date == START + 3 * DAY])
    more = frames["natural"].iloc[[45]].assign(event_id="more")
    feed("natural", "day-1-late", more)
    summary = prepare(spark, config, None)
    assert {file.rsplit("/", 1)[1] for file in looked[0].fresh} == {"day-3.parquet", "day-1-late.parquet"}
    assert (summary.days, summary.changed, summary.since) == (1, 1, START + DAY)
    assert len(content(lake)["natural"]) == len(frames["natural"]) + 1


def test_a_preparation_that_was_broken_off_ends_right_though_rows_came_between(spark, world, feed, logs, monkeypatch):
    frames = world(4)
    for domain, rows in frames.items():
        feed(domain, "all", rows[rows["event_id"] != "natural-100"])
    config = logs("broken", late_window="2d")
    prepare(spark, config, START + 2 * DAY)
    with monkeypatch.context() as patch:
        patch.setattr(
            preparation._Preparation, "_write_samples", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt())
        )
        with pytest.raises(KeyboardInterrupt):
            prepare(spark, config, None)
    row = frames["natural"][frames["natural"]["event_id"] == "natural-100"]
    assert row["ts"].iloc[0].date() == START + 2 * DAY
    feed("natural", "late", row)
    prepare(spark, config, None)
    broken = content(Lake(spark, config.warehouse_dir))
    whole = logs("whole", late_window="2d")
    prepare(spark, whole, None)
    assert_same(content(Lake(spark, whole.warehouse_dir)), broken)


def test_a_delta_log_is_followed_by_its_files_and_its_compaction_changes_nothing(spark, world, feed, logs, tmp_path):
    frames = world(3)
    path = tmp_path / "raw" / "delta"
    rows = spark.createDataFrame(frames["natural"].astype({"price": float}))
    for number in range(2):
        rows.where(f"to_date(ts) = DATE'{START + number * DAY}'").repartition(3).write.format("delta").mode(
            "append"
        ).save(str(path))
    feed("ad", "all", frames["ad"])
    config = logs("delta", late_window="1d", natural={"path": str(path), "format": "delta"})
    assert prepare(spark, config, None).days == 3
    spark.sql(f"OPTIMIZE delta.`{path}`")
    summary = prepare(spark, config, None)
    assert (summary.days, summary.changed) == (0, 0)
    rows.where(f"to_date(ts) = DATE'{START + 2 * DAY}'").write.format("delta").mode("append").save(str(path))
    assert prepare(spark, config, None).changed == 1
    assert len(content(Lake(spark, config.warehouse_dir))["natural"]) == len(frames["natural"])
    # Deleting rows beside a file, by a vector, is seen although the file stays.
    spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.enableDeletionVectors = true)")
    prepare(spark, config, None)
    spark.sql(f"DELETE FROM delta.`{path}` WHERE event_id = 'natural-{len(frames['natural']) - 1}'")
    prepare(spark, config, None)
    assert len(content(Lake(spark, config.warehouse_dir))["natural"]) == len(frames["natural"]) - 1
