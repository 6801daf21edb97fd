"""Preparation of the real logs: counts and histories against pandas on the same files."""

import os
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from ecdctr.config import load_config
from ecdctr.etl.prepare import prepare
from ecdctr.lake.tables import Lake

pytestmark = [pytest.mark.real, pytest.mark.spark]

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("ECDCTR_REAL_DATA") or ROOT / "../shared/data")


@pytest.fixture
def real_data(monkeypatch):
    if not REAL.is_dir():
        pytest.skip(f"no real logs at {REAL}; set ECDCTR_REAL_DATA")
    monkeypatch.setenv("ECDCTR_REAL_DATA", str(REAL.resolve()))
    return REAL


def samples(lake, domain):
    files = lake.pin(f"{domain}_samples").files
    return pd.concat([pq.ParquetFile(file.path).read().to_pandas() for file in files], ignore_index=True)


def test_two_days_of_kuairand_natural_to_ads(spark, real_data, tmp_path):
    conditions = [f"dataset.{key}.where=video_type = '{kind}' AND time_ms < 1651075200000"
                  for key, kind in (("natural", "NORMAL"), ("ads", "AD"))]  # fmt: skip
    config = load_config(ROOT / "conf/datasets/kuairand.yml", [f"warehouse={tmp_path}", *conditions])
    summary = prepare(spark, config, None)
    raw = pd.read_parquet(real_data / "kuairand_pure" / "events.parquet")
    raw = raw[raw["time_ms"] < 1651075200000]
    raw = raw.sort_values("is_click", ascending=False).drop_duplicates(["user_id", "video_id", "time_ms"])
    lake = Lake(spark, config.warehouse_dir)
    rows = {}
    for domain, kind in (("natural", "NORMAL"), ("ad", "AD")):
        expected = raw[raw["video_type"] == kind]
        rows[domain] = samples(lake, domain)
        assert summary.rows[domain] == len(rows[domain]) == len(expected)
        assert rows[domain]["label"].sum() == expected["is_click"].sum()
        assert (rows[domain][["user_id", "item_id", "author", "tag"]] >= 1).all(axis=None)
        clicks = raw[(raw["is_click"] == 1) & raw["video_type"].isin(["NORMAL", "AD"])].groupby("user_id")["time_ms"]
        earlier = expected.join(clicks.apply(list).rename("clicks"), on="user_id")
        lengths = earlier.apply(
            lambda row: (
                min(20, sum(t < row["time_ms"] for t in row["clicks"])) if isinstance(row["clicks"], list) else 0
            ),
            axis=1,
        )
        assert rows[domain]["clicked_items"].map(lambda items: int((items > 0).sum())).sum() == lengths.sum()
    known = rows["natural"]["author"] > 2
    assert known.mean() > 0.5


def test_the_first_day_of_digix_sparse_placements(spark, real_data, tmp_path):
    conditions = [
        "dataset.natural.where=slot_id = 11 AND pt_d = 1",
        "dataset.ads.where=slot_id IN (15, 19, 20, 22) AND pt_d = 1",
    ]
    config = load_config(ROOT / "conf/datasets/digix2020.yml", [f"warehouse={tmp_path}", *conditions])
    summary = prepare(spark, config, None)
    raw = pd.read_parquet(real_data / "digix2020" / "events.parquet")
    raw = raw[(raw["pt_d"] == 1) & raw["slot_id"].isin([15, 19, 20, 22])].drop_duplicates(
        config.dataset.columns.event_id
    )
    assert summary.rows["ad"] == len(raw)
    rows = samples(Lake(spark, config.warehouse_dir), "ad")
    assert rows["label"].sum() == raw["label"].sum()
    # All that a day of this log knows is the day: no click of it is strictly earlier than another of its rows.
    assert all((items == 0).all() for items in rows["clicked_items"])


@pytest.mark.parametrize("name", ["kuairand", "kuairand_tabs", "digix2020"])
def test_the_configurations_of_real_logs_name_columns_that_are_there(real_data, name):
    config = load_config(ROOT / "conf" / "datasets" / f"{name}.yml")
    for source in (config.dataset.natural, config.dataset.ads):
        columns = set(pq.read_schema(source.path).names)
        for side in source.side_tables:
            there = set(pd.read_csv(side.path, nrows=1).columns)
            assert {side.key, *side.columns} <= there
            columns |= there
        assert {config.dataset.columns.user, config.dataset.columns.item, config.dataset.columns.label} <= columns
