"""Where there are very many tokens all tasks order them; ids are those that one task would have dealt."""

import datetime as dt

import pandas as pd
import pytest

from ecdctr.etl import vocabulary
from ecdctr.etl.shuffles import shuffles_of
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
        monkeypatch.setattr(vocabulary, "ROWS_PER_SORT", -1 if many else 10**9)
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


def test_what_is_many_is_told_by_the_impressions_of_the_days(whole):
    assert vocabulary._rows(whole.lake, START, END) == vocabulary._rows(whole.lake, None, END) == 190
    assert vocabulary._rows(whole.lake, START, START + DAY) == 50
    assert vocabulary._rows(whole.lake, START + DAY, START + 2 * DAY) == 40


def test_shuffles_of_many_rows_have_many_tasks_and_the_setting_is_put_back(spark):
    key = "spark.sql.shuffle.partitions"
    before = spark.conf.get(key)
    with shuffles_of(spark, 10**8):
        assert spark.conf.get(key) == "50"
    assert spark.conf.get(key) == before
    with shuffles_of(spark, 10):
        assert spark.conf.get(key) == before
