"""Where there are very many tokens all tasks order them; ids are those that one task would have dealt."""

import datetime as dt

import pandas as pd
import pytest

from ecdctr.etl import vocabulary
from tests.spark.conftest import START, small_config, write_small_logs
from tests.spark.memory_lake import MemoryLake

pytestmark = pytest.mark.spark

DAYS = 6
DAY = dt.timedelta(days=1)
END = START + DAYS * DAY
RULES = {"item_id": {"min_count": 1, "oov_buckets": 3}, "user_id": {"min_count": 2}}


@pytest.mark.parametrize("ranges", ["1", "7"])
def test_ids_are_the_same_however_tokens_are_ordered(spark, tmp_path, monkeypatch, ranges):
    config = small_config(tmp_path, "many", {"vocabularies": RULES}, {"features": []})
    raw = write_small_logs(tmp_path, DAYS, lambda domain, frame: frame)
    found = []
    for many in (False, True):
        lake = MemoryLake(spark, config, raw)
        monkeypatch.setattr(vocabulary, "_many", lambda *_, many=many: many)
        # Ranges that are so small would be put together again.
        spark.conf.set("spark.sql.adaptive.enabled", "false")
        before = spark.conf.get("spark.sql.shuffle.partitions")
        spark.conf.set("spark.sql.shuffle.partitions", ranges)
        try:
            vocabulary.grow(lake, config, lake.features, START, END)
        finally:
            spark.conf.set("spark.sql.adaptive.enabled", "true")
            spark.conf.set("spark.sql.shuffle.partitions", before)
        found.append(lake.read("vocabulary").toPandas().sort_values(["field", "id"], ignore_index=True))
    pd.testing.assert_frame_equal(*found)
    assert len(found[0]) > 20
    assert not found[0].duplicated(["field", "id"]).any()


def test_what_is_many_is_told_by_the_impressions_of_the_new_days(spark, whole, monkeypatch):
    assert not vocabulary._many(whole.lake, START, END)
    monkeypatch.setattr(vocabulary, "ROWS_PER_SORT", 150)
    assert vocabulary._many(whole.lake, START, END)
    assert not vocabulary._many(whole.lake, START, START + DAY)
