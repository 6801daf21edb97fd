"""Which rows become samples, with which weight, in which order; and one user with half of all rows."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ecdctr.etl.prepare import prepare
from ecdctr.etl.scene import Scene
from ecdctr.lake.tables import Lake

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]


def files_of(lake, domain):
    return [pq.ParquetFile(file.path).read().to_pandas() for file in lake.pin(f"{domain}_samples").files]


def test_sampled_negatives_weigh_what_was_left_out_and_time_orders_each_file(spark, make_config, write_logs):
    frames = write_logs(days=2)
    config = make_config(
        negative_sampling={"natural": 0.4},
        sample_order="time",
        features=[{"kind": "rate", "name": "seen", "of": ["user_id"], "windows": [1]}],
    )
    summary = prepare(spark, config, None)
    lake = Lake(spark, config.warehouse_dir)
    natural, raw = pd.concat(files_of(lake, "natural")), frames["natural"]
    clicked = raw[raw["click"] == 1]
    assert set(natural[natural["label"] == 1]["event_id"]) == set(clicked["event_id"])
    negatives = natural[natural["label"] == 0]
    assert 0 < len(negatives) < len(raw) - len(clicked)
    assert set(negatives["event_id"]) <= set(raw[raw["click"] == 0]["event_id"])
    assert summary.rows["natural"] == len(natural)
    assert natural[natural["label"] == 1]["weight"].unique().tolist() == [1.0]
    assert negatives["weight"].unique().tolist() == [2.5]
    # Ads are evaluated: all of them are there, once.
    ads = pd.concat(files_of(lake, "ad"))
    assert sorted(ads["event_id"]) == sorted(frames["ad"]["event_id"])
    assert ads["weight"].unique().tolist() == [1.0]
    # What a row knows of earlier days counts the rows that are no samples.
    both = pd.concat(frames.values())
    day = both["ts"].dt.day
    times = dict(zip(both["event_id"], both["ts"], strict=True))
    users = dict(zip(both["event_id"], both["user_id"], strict=True))
    for _, row in pd.concat([natural, ads]).iterrows():
        before = both[(day == times[row["event_id"]].day - 1) & (both["user_id"] == users[row["event_id"]])]
        assert row["seen_impressions_1d"] == pytest.approx(np.log1p(len(before)), rel=1e-6)
    for domain in ("natural", "ad"):
        parts = files_of(lake, domain)
        for part in parts:
            assert part["event_id"].map(times).is_monotonic_increasing
        for date in {part["day"].iloc[0] for part in parts if len(part)}:
            sizes = [len(part) for part in parts if len(part) and part["day"].iloc[0] == date]
            assert max(sizes) - min(sizes) <= 1


def test_a_share_is_what_a_large_log_keeps_and_a_repetition_keeps_the_same(spark, make_config, monkeypatch):
    ids = spark.range(20_000).selectExpr("concat('e', id) AS event_id", "0 AS label")
    monkeypatch.setattr(Scene, "past", lambda *args: ids)
    kept = []
    for _ in range(2):
        config = make_config(negative_sampling={"natural": 0.1})
        scene = Scene(None, config, "natural", dt.date(2024, 1, 1), dt.date(2024, 1, 2), None)
        kept.append({row["event_id"] for row in scene.impressions.collect()})
    assert kept[0] == kept[1]
    # Five standard deviations of a binomial count.
    assert abs(len(kept[0]) - 2000) < 5 * np.sqrt(20_000 * 0.1 * 0.9)


def test_one_user_with_half_of_all_rows_and_room_for_thousands_of_clicks(spark, make_config, tmp_path):
    rng = np.random.default_rng(1)
    rows, length = 1_200, 5_000
    user = np.where(np.arange(rows) % 2 == 0, "giant", rng.integers(0, 200, rows).astype(str))
    second = np.sort(rng.choice(2 * 86_400, rows, replace=False))
    raw = pd.DataFrame(
        {
            "event_id": [f"e{place:06d}" for place in range(rows)],
            "user_id": user,
            "item": [f"i{item}" for item in rng.zipf(1.2, rows) % 300],
            "ts": pd.Timestamp(2024, 1, 1) + pd.to_timedelta(second, unit="s"),
            "click": 1,
        }
    )
    (tmp_path / "raw").mkdir()
    ad = np.arange(rows) >= rows - 200
    for name, part in (("natural", raw[~ad]), ("ads", raw[ad])):
        part.to_parquet(tmp_path / "raw" / f"{name}.parquet", coerce_timestamps="us", index=False)
    config = make_config(
        top={"vocabularies": {"item_id": {"min_count": 1}}},
        features=[
            {"kind": "sequence", "name": "clicked", "length": length},
            {"kind": "rate", "name": "mine", "of": ["user_id"], "windows": [2]},
        ],
    )
    prepare(spark, config, None)
    lake = Lake(spark, config.warehouse_dir)
    ads = pd.concat(files_of(lake, "ad")).set_index("event_id")
    words = lake.read("vocabulary").where("field = 'item_id'").toPandas()
    ids = dict(zip(words["token"], words["id"], strict=True))
    for _, event in raw[ad].iterrows():
        past = raw[(raw["user_id"] == event["user_id"]) & (raw["ts"] < event["ts"])]["item"].map(ids).tolist()[::-1]
        found = ads.loc[event["event_id"]]
        assert found["clicked"].tolist() == (past + [0] * length)[:length]
    giant = ads[ads["user"] == "giant"]
    yesterday = ((raw["user_id"] == "giant") & (raw["ts"].dt.day == 1)).sum()
    assert np.allclose(giant["mine_impressions_2d"], np.log1p(yesterday))
