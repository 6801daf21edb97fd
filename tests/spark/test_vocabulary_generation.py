"""A new generation of the vocabulary: expired tokens go, ids are dealt anew, samples follow, and it survives a crash."""

import datetime as dt
import json
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from ecdctr.etl import prepare as preparation
from ecdctr.etl.expiry import write_expired
from ecdctr.etl.notes import generation_of
from ecdctr.etl.prepare import compact_vocabulary, prepare
from ecdctr.exceptions import InputError, NotReadyError
from ecdctr.lake.tables import Lake
from ecdctr.pipelines.workspace import Workspace

pytestmark = pytest.mark.spark

START = dt.date(2024, 1, 1)
FEATURES = [{"name": "clicked_items", "kind": "sequence", "length": 4}]
RULES = {"item_id": {"min_count": 3, "oov_buckets": 2, "expire_after": "2d"}}


def tokens(lake):
    """The samples with each item's token in place of its id."""
    words = {row["id"]: row["token"] for row in lake.read("vocabulary").where("field = 'item_id'").collect()}
    files = lake.pin("natural_samples").files
    rows = (
        pd.concat([pq.ParquetFile(file.path).read().to_pandas() for file in files]).set_index("event_id").sort_index()
    )
    return rows["item_id"].map(words), rows["clicked_items"].map(lambda ids: [words.get(item) for item in ids])


def assert_expired_by(date, lake, config, raw, words):
    """What is written for a level of a day is what the raw logs say: ids of tokens not seen in the two days before."""
    both = pd.concat(raw.values())
    days = both["ts"].dt.date
    seen = set(both["item"][(days < date) & (days >= date - dt.timedelta(days=2))])
    known = words[(words["field"] == "item_id") & (words["admitted"] < date)]
    expected = sorted(known["id"][~known["token"].isin(seen)])
    found = write_expired(lake, config, date, lake.root)
    files = sorted((found.folder / "field=item_id").glob("*.parquet"))
    assert sorted(number for file in files for number in pq.ParquetFile(file).read()["id"].to_pylist()) == expected
    assert found.counts == ({"item_id": len(expected)} if expected else {})
    assert write_expired(lake, config, date, lake.root) == found
    assert [file.name for file in (lake.root / "_expired").glob(f"*{date}*")] == [found.folder.name] * bool(expected)
    assert not list((lake.root / "_expired").glob(".*"))
    without = write_expired(lake, config.model_copy(update={"vocabularies": {}}), date, lake.root)
    assert (without.counts, without.folder.exists()) == ({}, False)
    return len(expected)


def test_expired_tokens_are_dropped_ids_dealt_anew_and_a_broken_compaction_is_completed(
    spark, make_config, write_logs, monkeypatch
):
    def leave(domain, frame):
        return frame[~((frame["item"] == "i1") & (frame["ts"].dt.date >= START + dt.timedelta(days=2)))]

    raw = write_logs(days=4, change=leave)
    config = make_config(top={"vocabularies": RULES}, features=FEATURES)
    lake = Lake(spark, config.warehouse_dir)
    with pytest.raises(NotReadyError, match="not prepared as a whole"):
        compact_vocabulary(spark, config)
    prepare(spark, config, None)
    before, (items, clicks) = lake.read("vocabulary").toPandas(), tokens(lake)
    assert "i1" in set(before["token"])
    counts = [assert_expired_by(START + dt.timedelta(days=days), lake, config, raw, before) for days in (1, 4)]
    assert counts[0] == 0 < counts[1]
    with monkeypatch.context() as patch:
        broken = lambda *args: (_ for _ in ()).throw(KeyboardInterrupt())  # noqa: E731
        patch.setattr(preparation._Preparation, "_write_samples", broken)
        with pytest.raises(KeyboardInterrupt):
            compact_vocabulary(spark, config)
    with pytest.raises(NotReadyError, match="ids of vocabulary generation 1; the vocabulary is of generation 2"):
        generation_of(lake, "ad_samples")
    with pytest.raises(NotReadyError, match="not prepared as a whole"):
        compact_vocabulary(spark, config)
    prepare(spark, config, None)
    assert generation_of(lake, "ad_samples") == generation_of(lake, "natural_samples") == 2
    after, (items_after, clicks_after) = lake.read("vocabulary").toPandas(), tokens(lake)
    gone = set(before["token"]) - set(after["token"])
    assert "i1" in gone
    kept = before[~((before["field"] == "item_id") & before["token"].isin(gone))]
    columns = ["field", "token", "first_seen", "count", "admitted"]
    pairs = [frame[columns].sort_values(columns, ignore_index=True) for frame in (kept, after)]
    pd.testing.assert_frame_equal(*pairs)
    for field, rows in after.groupby("field"):
        assert rows["id"].is_unique
        assert rows["id"].max() <= before[before["field"] == field]["id"].max()
    # Each sample means what it meant, less the dropped tokens.
    blank = lambda token: None if token in gone else token  # noqa: E731
    assert items_after.index.tolist() == items.index.tolist()
    text = lambda token: token if isinstance(token, str) else None  # noqa: E731
    assert [text(token) for token in items_after] == [text(blank(token)) for token in items]
    assert clicks_after.tolist() == [[blank(token) for token in row] for row in clicks]
    # A third one, unbroken; nothing is expired any more, so that it gives the same rows.
    assert compact_vocabulary(spark, config).tokens == 0
    assert generation_of(lake) == 3
    again = lake.read("vocabulary").toPandas()
    order = ["field", "id"]
    pd.testing.assert_frame_equal(
        after.sort_values(order, ignore_index=True), again.sort_values(order, ignore_index=True)
    )
    with Workspace(config, spark) as opened:
        assert opened.model_digest("actr") != config.model_digest("actr")
        opened.refuse_other_generation(
            SimpleNamespace(version="v", metrics_json=json.dumps({"vocabulary_generation": 3}))
        )
        with pytest.raises(InputError, match="trained on vocabulary generation 1; the tables are of generation 3"):
            opened.refuse_other_generation(SimpleNamespace(version="v", metrics_json="{}"))
