"""Logs → samples: against values worked out without Spark; the past untouched by the future; whole or not at all."""

import datetime as dt
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ecdctr.etl import prepare as preparation
from ecdctr.etl.notes import prepared_until
from ecdctr.etl.prepare import prepare
from ecdctr.etl.vocabulary import high_water_marks
from ecdctr.exceptions import ConfigError
from ecdctr.features.encoding import bucket_of_token
from ecdctr.features.feature_set import feature_set
from ecdctr.lake.tables import Lake

pytestmark = pytest.mark.spark

DAY = dt.timedelta(days=1)
START = dt.date(2024, 1, 1)
DOMAINS = ("natural", "ad")


def contract(config):
    return feature_set(
        config.dataset.features, {name: rules.oov_buckets for name, rules in config.vocabularies.items()}
    )


def read_samples(lake, domain, until=None):
    """Samples in the order of their files, read as a trainer reads them."""
    files = lake.pin(f"{domain}_samples", until=until).files
    return pd.concat([pq.ParquetFile(f.path).read().to_pandas() for f in files], ignore_index=True)


def content(lake, until=None):
    tables = {
        domain: read_samples(lake, domain, until).sort_values("event_id", ignore_index=True) for domain in DOMAINS
    }
    words = lake.read("vocabulary").toPandas().sort_values(["field", "id"], ignore_index=True)
    return tables | {"vocabulary": words if until is None else words[words["admitted"] < until].reset_index(drop=True)}


def same(one, other):
    for name in one:
        pd.testing.assert_frame_equal(one[name], other[name])


def events(frames):
    """The raw logs as one frame in event order, with tokens as text."""
    both = pd.concat([frame.assign(domain=domain) for domain, frame in frames.items()], ignore_index=True)
    both["user"] = both["user_id"].astype(str)
    both["day"] = both["ts"].dt.date
    return both


def expected_vocabulary(frames, columns, min_count, oov, domains_apart):
    """Token → (id, day of admission), dealt by the rules of the brief, one event at a time."""
    both, counts, ids, block = events(frames), {}, {}, 0
    for day in sorted(both["day"].unique()):
        admitted: dict[int, list[str]] = {}
        for _, row in both[both["day"] == day].iterrows():
            tokens = {f"{row['domain']}\x1f{row[c]}" if domains_apart else str(row[c]) for c in columns if row[c]}
            for token in tokens:
                counts[token] = counts.get(token, 0) + 1
                if counts[token] >= min_count and token not in ids:
                    ids[token] = None
                    admitted.setdefault(bucket_of_token(token, oov), []).append(token)
        for bucket, tokens in admitted.items():
            for place, token in enumerate(sorted(tokens)):
                ids[token] = (2 + oov + bucket + oov * (block + place), day)
        block += max(map(len, admitted.values()), default=0)
    return {token: known for token, known in ids.items() if known is not None}


def encode(vocabulary, token, day, oov):
    known = vocabulary.get(token)
    return known[0] if known and known[1] <= day else 2 + bucket_of_token(token, oov)


def test_samples_equal_those_worked_out_by_hand(whole):
    frames, config, lake, summary = whole.frames, whole.config, whole.lake, whole.summary
    assert summary.rows == {"natural": 160, "ad": 30}
    assert (summary.days, summary.since, summary.until) == (4, START, START + 4 * DAY)
    both = events(frames)
    items = expected_vocabulary(frames, ["item"], 3, 2, False)
    categories = expected_vocabulary(frames, ["category", "last_category"], 2, 1, True)
    stored = lake.read("vocabulary").toPandas()
    for name, words in (("item_id", items), ("category", categories)):
        rows = stored[stored["field"] == name]
        assert dict(zip(rows["token"], zip(rows["id"], rows["admitted"], strict=True), strict=True)) == words
    clicked = both[both["click"] == 1].sort_values(["ts", "event_id"])
    for domain in DOMAINS:
        rows = read_samples(lake, domain).set_index("event_id")
        assert sorted(rows.index) == sorted(frames[domain]["event_id"])
        assert list(rows.columns) == ["user", "day", "label", "weight", *contract(config).columns]
        for _, raw in both[both["domain"] == domain].iterrows():
            row, day = rows.loc[raw["event_id"]], raw["day"]
            assert row["user"] == raw["user"]
            assert (row["label"], row["weight"], row["day"]) == (raw["click"], 1.0, (day - dt.date(1970, 1, 1)).days)
            assert row["item_id"] == encode(items, raw["item"], day, 2)
            for field in ("category", "last_category"):
                token = f"{domain}\x1f{raw[field]}"
                assert row[field] == (encode(categories, token, day, 1) if raw[field] else 1)
            assert row["position"] == 2 + int(raw["position"] >= 1) + int(raw["position"] >= 3)
            assert (row["hour"], row["weekday"]) == (2 + raw["ts"].hour, 2 + raw["ts"].weekday())
            price = 0.0 if np.isnan(raw["price"]) else np.sign(raw["price"]) * np.log1p(abs(raw["price"]))
            assert row["price"] == pytest.approx(price, rel=1e-6)
            before = clicked[(clicked["user"] == raw["user"]) & (clicked["ts"] < raw["ts"])]
            late = before[(before["domain"] == "ad") & (before["ts"] < raw["ts"] - pd.Timedelta(hours=1))]
            for field, past, length in (("clicked_items", before, 4), ("clicked_ads", late, 3)):
                wanted = [encode(items, item, day, 2) for item in past["item"].tolist()[::-1][:length]]
                assert row[field].tolist() == wanted + [0] * (length - len(wanted)), (raw["event_id"], field)


def test_every_day_lies_in_even_shuffled_lanes_of_one_row_group(whole):
    for domain in DOMAINS:
        files = whole.lake.pin(f"{domain}_samples").files
        for day in {file.event_date for file in files}:
            sizes = [file.rows for file in files if file.event_date == day]
            assert len(sizes) == whole.config.lanes
            assert max(sizes) - min(sizes) <= 1
        assert all(pq.ParquetFile(file.path).num_row_groups == 1 for file in files)
        ids = read_samples(whole.lake, domain)["event_id"].tolist()
        raw = whole.frames[domain]["event_id"].tolist()
        assert sum(raw.index(a) < raw.index(b) for a, b in pairwise(ids)) / len(ids) < 0.8


def test_day_by_day_gives_the_same_files_and_a_repetition_does_nothing(spark, whole, make_config, write_logs):
    write_logs()
    config = make_config()
    for day in (3, 4):
        prepare(spark, config, dt.date(2024, 1, day))
    summary = prepare(spark, config, None)
    assert (summary.days, summary.since, summary.until) == (1, START + 3 * DAY, START + 4 * DAY)
    lake = Lake(spark, config.warehouse_dir)
    same(content(whole.lake), content(lake))
    for domain in DOMAINS:
        pins = [each.pin(f"{domain}_samples").files for each in (whole.lake, lake)]
        for first, second in zip(*pins, strict=True):
            assert first.event_date == second.event_date
            assert pq.read_table(first.path, partitioning=None).equals(pq.read_table(second.path, partitioning=None))
    assert START + DAY not in {file.event_date for file in lake.pin("ad_samples").files}
    marks = [high_water_marks(each, contract(config)).rows_until for each in (whole.lake, lake)]
    for day in range(6):
        assert marks[0](START + day * DAY) == marks[1](START + day * DAY)
    rows = [marks[0](START + day * DAY)["item_id"] for day in range(6)]
    assert rows[0] == 4
    assert rows == sorted(rows)
    for day in range(1, 5):
        assert read_samples(lake, "natural", START + day * DAY)["item_id"].max() < rows[day]
    for until in (None, dt.date(2024, 1, 3)):
        again = prepare(lambda: pytest.fail("a finished preparation needs no Spark"), config, until)
        assert (again.days, again.versions) == (0, summary.versions)


def test_no_sample_before_a_day_knows_what_comes_at_or_after_it(spark, whole, make_config, write_logs):
    cut = START + 2 * DAY

    def other_future(domain, frame):
        past = frame[frame["ts"].dt.date < cut]
        future = frame[frame["ts"].dt.date >= cut].sample(frac=0.6, random_state=3)
        mixed = {
            c: future[c].sample(frac=1, random_state=5).to_numpy() for c in ("item", "click", "user_id", "category")
        }
        return pd.concat([future.assign(**mixed), past], ignore_index=True)

    write_logs(change=other_future)
    config = make_config()
    prepare(spark, config, None)
    lake = Lake(spark, config.warehouse_dir)
    same(content(whole.lake, cut), content(lake, cut))
    marks = [high_water_marks(each, contract(config)).rows_until(cut) for each in (whole.lake, lake)]
    assert marks[0] == marks[1]
    assert not content(whole.lake)["natural"].equals(content(lake)["natural"])


def test_an_interrupted_preparation_goes_on_and_ends_the_same(spark, whole, make_config, write_logs, monkeypatch):
    write_logs()
    config = make_config()
    lake = Lake(spark, config.warehouse_dir)
    for stage in ("_grow_vocabulary", "_write_samples"):
        with monkeypatch.context() as patch:
            patch.setattr(preparation._Preparation, stage, lambda *args: (_ for _ in ()).throw(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                prepare(spark, config, None)
        assert prepared_until(lake) is None
    written = lake.version("natural_impressions")
    prepare(spark, config, None)
    assert lake.version("natural_impressions") == written
    same(content(whole.lake), content(lake))
    assert prepared_until(lake) == START + 4 * DAY


def test_tables_of_another_contract_are_not_mixed(spark, whole):
    features = list(whole.config.dataset.features)
    for change in (features[1:], [features[0].model_copy(update={"vocabulary": "other"}), *features[1:]]):
        dataset = whole.config.dataset.model_copy(update={"features": change})
        with pytest.raises(ConfigError, match="prepared with other features"):
            prepare(spark, whole.config.model_copy(update={"dataset": dataset}), None)


def test_days_that_the_logs_had_not_come_to_are_not_late_when_they_come(spark, make_config, write_logs):
    config = make_config()
    write_logs(days=3)
    first = prepare(spark, config, START + dt.timedelta(days=30))
    # Nor are they prepared: whoever is to know the days before a later one has to wait.
    assert first.until == prepared_until(Lake(spark, config.warehouse_dir)) == START + 3 * DAY
    write_logs(days=5)
    summary = prepare(spark, config, START + dt.timedelta(days=30))
    assert summary.quarantined == 0
    lake = Lake(spark, config.warehouse_dir)
    days = {row.event_date for row in lake.read("natural_impressions").select("event_date").distinct().collect()}
    assert days == {START + dt.timedelta(days=day) for day in range(5)}
    samples = lake.read("natural_samples").where(f"event_date = '{START + dt.timedelta(days=4)}'")
    assert samples.count() == 40
