"""Worlds by chance: whatever is deleted or shuffled from some day on, no kind of feature of an earlier sample moves."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from ecdctr.etl import vocabulary
from tests.spark.conftest import START, small_config, write_small_logs
from tests.spark.memory_lake import MemoryLake
from tests.spark.test_feature_kinds import EXAMPLES, KINDS, add_columns

pytestmark = [pytest.mark.spark, pytest.mark.campaign, pytest.mark.timeout(1800)]

DAYS = 6
END = START + DAYS * dt.timedelta(days=1)
RULES = {
    "item_id": {"min_count": 2, "oov_buckets": 3},
    "category": {"share_domains": False, "min_count": 1, "window": "2d"},
}


def changed(cut, rng):
    """Deletes a share of what comes from the cut on, all of it in the last world, and shuffles every column of the rest."""
    share = rng.choice([0.0, 0.4, 1.0])

    def change(domain, frame):
        frame = add_columns(domain, frame)
        late = frame["ts"].dt.date >= cut
        future = frame[late]
        future = future[rng.random(len(future)) < share]
        if future.empty:
            return frame[~late].reset_index(drop=True)
        mixed = {name: rng.permutation(future[name].to_numpy()) for name in future.columns if name != "event_id"}
        return pd.concat([frame[~late], future.assign(**mixed)], ignore_index=True)

    return change


@pytest.mark.parametrize("seed", range(4))
def test_no_kind_of_feature_knows_what_comes_at_or_after_its_day(spark, tmp_path, seed):
    rng = np.random.default_rng(seed)
    cut = START + int(rng.integers(1, DAYS)) * dt.timedelta(days=1)
    config = small_config(tmp_path, "worlds", {"vocabularies": RULES}, {"features": EXAMPLES, "late_window": "1d"})
    lakes = []
    for name, change in (("whole", add_columns), ("changed", changed(cut, rng))):
        folder = tmp_path / name
        folder.mkdir()
        lake = MemoryLake(spark, config, write_small_logs(folder, DAYS, change))
        vocabulary.grow(lake, config, lake.features, START, END)
        lakes.append(lake)
    words = []
    for lake in lakes:
        known = lake.read("vocabulary").toPandas()
        words.append(known[known["admitted"] < cut].sort_values(["field", "id"], ignore_index=True))
    pd.testing.assert_frame_equal(*words)
    assert len(words[0]) or cut <= START + dt.timedelta(days=2)
    for kind in KINDS:
        for domain in ("natural", "ad"):
            one, other = (lake.encoded(kind, domain, START, END) for lake in lakes)
            early = one["event_id"].isin(other["event_id"]) & one["event_id"].isin(before(lakes[0], domain, cut))
            known = other[other["event_id"].isin(one["event_id"][early])].reset_index(drop=True)
            assert early.any()
            pd.testing.assert_frame_equal(one[early].reset_index(drop=True), known)


def before(lake, domain, cut):
    rows = lake.read(f"{domain}_impressions").select("event_id", "event_date").collect()
    return {row["event_id"] for row in rows if row["event_date"] < cut}
