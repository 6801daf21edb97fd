"""Every kind of feature, as docs/features.md shows it: worked out without Spark, and blind to the future."""

import datetime as dt
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ecdctr.etl import vocabulary
from ecdctr.features.installed import installed_kinds, kind_name
from ecdctr.features.kinds import KINDS as SHIPPED
from tests.feature_package import install_example
from tests.spark.conftest import START, small_config, write_small_logs
from tests.spark.memory_lake import MemoryLake
from tests.spark.test_prepare import encode, events, expected_vocabulary

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1200)]

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text()
EXAMPLES = [
    spec
    for block in re.findall(r"^```yaml\n(- .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for spec in yaml.safe_load(block)
]
KINDS = [kind_name(kind) for kind in SHIPPED]
DAYS = 6
CUT = START + 4 * dt.timedelta(days=1)
END = START + DAYS * dt.timedelta(days=1)
DOMAINS = ("natural", "ad")


def add_columns(domain: str, frame: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng([7, domain == "ad"])
    rows = len(frame)
    tags = ["|".join(rng.choice(["t1", "t2", "t3", "t4", ""], rng.integers(0, 5))) or None for _ in range(rows)]
    watched = np.where(rng.random(rows) < 0.1, np.nan, rng.lognormal(3, 1, rows))
    return frame.assign(tags=tags, watch_seconds=watched)


def other_future(domain: str, frame: pd.DataFrame) -> pd.DataFrame:
    frame = add_columns(domain, frame)
    late = frame["ts"].dt.date >= CUT
    future = frame[late].sample(frac=0.6, random_state=3)
    mixed = {
        name: future[name].sample(frac=1, random_state=place).to_numpy()
        for place, name in enumerate(future.columns)
        if name not in ("event_id", "ts")
    }
    return pd.concat([future.assign(**mixed), frame[~late]], ignore_index=True)


def vocabularies(frames):
    """Tokens of the examples with their ids and days of admission, dealt one event at a time."""
    both = events(frames)
    by_domain = {domain: both[both["domain"] == domain] for domain in DOMAINS}
    spread = pd.DataFrame(
        [
            {"event_id": f"{raw['event_id']}-{tag}", "user_id": 0, "ts": raw["ts"], "domain": raw["domain"], "tag": tag}
            for _, raw in both.iterrows()
            for tag in {tag for tag in (raw["tags"] or "").split("|") if tag}
        ]
    )
    crossed = both.assign(pair=both["category"].fillna("") + "\x1f" + both["device"])
    tags, pairs = ({d: frame[frame["domain"] == d] for d in DOMAINS} for frame in (spread, crossed))
    return {
        "item_id": expected_vocabulary(by_domain, ["item"], 3, 2, False),
        "category": expected_vocabulary(by_domain, ["category", "last_category"], 2, 1, True),
        "tags": expected_vocabulary(tags, ["tag"], 2, 1, False),
        "category_device": expected_vocabulary(pairs, ["pair"], 2, 1, False),
    }


@pytest.fixture(scope="module")
def planned(spark):
    """No second thoughts about plans: adaptive execution plans anew after each of many stages of a few rows."""
    spark.conf.set("spark.sql.adaptive.enabled", "false")
    yield spark
    spark.conf.set("spark.sql.adaptive.enabled", "true")


@pytest.fixture(scope="module")
def lakes(planned, tmp_path_factory):
    """The raw log, and lakes: of the whole log, of one with another future, and of one that ends before the cut."""
    config = small_config(tmp_path_factory.mktemp("kinds"), "kinds", {}, {"features": EXAMPLES})
    raw, other = (
        write_small_logs(tmp_path_factory.mktemp("raw"), DAYS, change) for change in (add_columns, other_future)
    )
    made = {
        name: MemoryLake(planned, config, frames) for name, frames in (("whole", raw), ("other", other), ("cut", raw))
    }
    for name, frames in (("whole", raw), ("other", other)):
        made[name].know(vocabularies(frames))
    made["cut"].know(
        {
            field: {token: known for token, known in tokens.items() if known[1] < CUT}
            for field, tokens in vocabularies(raw).items()
        }
    )
    made["cut"].forget(CUT)
    return raw, made


def test_the_page_has_an_example_of_every_kind():
    assert {spec["kind"] for spec in EXAMPLES} == set(KINDS)
    assert re.findall(r"^## `kind: (\w+)`", PAGE, re.MULTILINE) == KINDS


@pytest.fixture
def pairs(lakes, kind):
    """All raw events in order, and each raw ad beside what the kind's features made of it."""
    raw, made = lakes
    both = events(raw).sort_values(["ts", "event_id"], ignore_index=True)
    rows = made["whole"].encoded(kind, "ad", START, END).set_index("event_id")
    assert sorted(rows.index) == sorted(raw["ad"]["event_id"])
    assert rows.notna().all(axis=None)
    return both, [(event, rows.loc[event["event_id"]]) for _, event in both[both["domain"] == "ad"].iterrows()]


def of(kind):
    return pytest.mark.parametrize("kind", [kind])


def rounded(values):
    return [float(f"{value:.2e}") for value in values if not math.isnan(value)]


def between(both, day, first, last, domains=DOMAINS):
    """Events from `first` to `last` days before a day, both included."""
    age = both["day"].map(lambda d: (day - d).days)
    return both[(age <= first) & (age >= last) & both["domain"].isin(domains)]


@of("ids")
def test_lists_hold_the_first_tokens_in_their_order(pairs):
    both, rows = pairs
    words = vocabularies({domain: both[both["domain"] == domain] for domain in DOMAINS})["tags"]
    for raw, row in rows:
        tags = [tag for tag in (raw["tags"] or "").split("|") if tag]
        ids = [encode(words, tag, raw["day"], 1) for tag in tags][:3]
        assert row["tags"].tolist() == ids + [0] * (3 - len(ids))


@of("number")
def test_numbers_are_standardised_by_the_days_before(pairs):
    both, rows = pairs
    for raw, row in rows:
        price = raw["price"]
        assert row["price_plain"] == pytest.approx(-1.0 if math.isnan(price) else price, rel=1e-6)
        past = rounded(between(both, raw["day"], 2, 1)["price"])
        if math.isnan(price) or not past:
            assert row["price_standardised"] == 0.0
        else:
            wanted = min(max((price - np.mean(past)) / np.std(past), -10), 10)
            assert row["price_standardised"] == pytest.approx(wanted, rel=1e-4, abs=1e-5)


@of("quantile")
def test_quantiles_are_those_of_the_days_before(pairs):
    both, rows = pairs
    seen = set()
    for raw, row in rows:
        past = sorted(rounded(between(both, raw["day"], 3, 1)["watch_seconds"]))
        if math.isnan(raw["watch_seconds"]) or not past:
            assert row["watched"] == 1
            continue
        boundaries = [past[math.ceil(len(past) * part / 4) - 1] for part in (1, 2, 3)]
        assert row["watched"] == 2 + sum(boundary < raw["watch_seconds"] for boundary in boundaries)
        seen.add(row["watched"])
    assert seen == {2, 3, 4, 5}


@of("age")
def test_ages_count_from_the_first_day_seen(pairs):
    both, rows = pairs
    for raw, row in rows:
        item = (raw["day"] - both[both["item"] == raw["item"]]["day"].min()).days
        assert row["item_age"] == (1 if item < 1 else 2 + (item >= 2) + (item >= 3))
        ads = both[(both["domain"] == "ad") & (both["user"] == raw["user"]) & (both["day"] < raw["day"])]["day"]
        age = 0 if ads.empty else (raw["day"] - ads.min()).days
        assert row["user_age_in_ads"] == (1 if age < 1 else 2 + (age >= 2))


@of("rate")
def test_rates_are_those_of_the_windows_before(pairs):
    both, rows = pairs

    def check(row, name, days, strength, whole, mine):
        mean = whole["click"].mean() if len(whole) else 0.0
        assert row[f"{name}_impressions_{days}d"] == pytest.approx(math.log1p(len(mine)), rel=1e-6)
        wanted = (mine["click"].sum() + strength * mean) / (len(mine) + strength)
        assert row[f"{name}_rate_{days}d"] == pytest.approx(wanted, rel=1e-6)

    for raw, row in rows:
        for days in (1, 3):
            past = between(both, raw["day"], days, 1, ["natural"])
            check(row, "user_natural", days, 5, past, past[past["user"] == raw["user"]])
        past = between(both, raw["day"], 3, 2)
        same = past["category"].fillna("") == (raw["category"] or "")
        check(row, "item_category", 2, 20, past, past[(past["item"] == raw["item"]) & same])


@of("sequence")
def test_clicks_carry_their_attribute_and_their_time(pairs):
    both, rows = pairs
    categories = expected_vocabulary(
        {d: both[both["domain"] == d] for d in DOMAINS}, ["category", "last_category"], 2, 1, True
    )
    clicks = both[(both["click"] == 1) & (both["domain"] == "natural")]
    for raw, row in rows:
        past = clicks[(clicks["user"] == raw["user"]) & (clicks["ts"] < raw["ts"])].iloc[::-1][:3]
        pad = [0] * (3 - len(past))
        ids = [encode(categories, f"natural\x1f{c}", raw["day"], 1) if c else 1 for c in past["category"]]
        assert row["clicked_in_feed_category"].tolist() == ids + pad
        ages = [int((raw["ts"] - ts).total_seconds()).bit_length() for ts in past["ts"]]
        assert row["clicked_in_feed_times"].tolist() == [2 + age for age in ages] + pad


def test_a_kind_of_another_package_encodes_as_the_shipped_ones_do(planned, lakes, tmp_path, monkeypatch):
    raw, _ = lakes
    install_example(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (choice,) = installed_kinds(SHIPPED).kinds
    spec = choice.model_validate({"kind": "choice", "name": "known", "source": "category", "values": ["b", "a"]})
    config = small_config(tmp_path, "strange", {}, {"features": []})
    strange = config.model_copy(update={"dataset": config.dataset.model_copy(update={"features": [spec]})})
    lake = MemoryLake(planned, strange, raw)
    lake.create("vocabulary")
    found = lake.encoded("choice", "ad", START, END).set_index("event_id")["known"]
    assert lake.features.fixed_rows["known"] == 2 + 3
    assert found.to_dict() == {
        event: {"b": 3, "a": 4, None: 1}.get(value, 2)
        for event, value in zip(raw["ad"]["event_id"], raw["ad"]["category"], strict=True)
    }
    assert set(found) == {1, 2, 3, 4}


def test_tokens_of_lists_are_admitted_as_others_are(planned, lakes, tmp_path):
    raw, _ = lakes
    features = [spec for spec in EXAMPLES if spec["kind"] in ("ids", "cross")]
    lake = MemoryLake(planned, small_config(tmp_path, "lists", {}, {"features": features}), raw)
    vocabulary.grow(lake, lake.config, lake.features, START, END)
    found = lake.read("vocabulary").toPandas()
    for field in ("tags", "category_device", "item_id"):
        rows = found[found["field"] == field]
        known = dict(zip(rows["token"], zip(rows["id"], rows["admitted"], strict=True), strict=True))
        assert known == vocabularies(raw)[field]


@pytest.mark.parametrize("kind", KINDS)
def test_no_sample_before_a_day_changes_with_what_comes_at_or_after_it(lakes, kind):
    _, made = lakes
    early = made["cut"].encoded(kind, "natural", START, CUT)
    # Made when later days are there, as one of many; made from another future; and the last day made alone.
    whole, other = (made[name].encoded(kind, "natural", START, END) for name in ("whole", "other"))
    last = made["cut"].encoded(kind, "natural", CUT - dt.timedelta(days=1), CUT)
    for name, frame in (("whole", whole), ("other", other), ("last", last)):
        known = frame[frame["event_id"].isin(early["event_id"])].reset_index(drop=True)
        expected = early[early["event_id"].isin(frame["event_id"])].reset_index(drop=True)
        assert len(known) == (len(expected) if name == "last" else len(early)) > 0
        pd.testing.assert_frame_equal(known, expected)
    assert len(whole) > len(early)
    # A column that is the same for all rows would pass without telling anything.
    assert all(early[name].astype(str).nunique() > 1 for name in early)


def test_tokens_are_admitted_by_their_impressions_within_a_window_day_by_day_or_at_once(planned, lakes, tmp_path):
    raw, _ = lakes
    rules = {"item_id": {"min_count": 3, "window": "2d"}, "user_id": {"min_count": 4, "window": "3d"}}
    config = small_config(tmp_path, "window", {"vocabularies": rules}, {"features": []})
    at_once, by_day = MemoryLake(planned, config, raw), MemoryLake(planned, config, raw)
    vocabulary.grow(at_once, config, at_once.features, START, END)
    for place in range((END - START).days):
        day = START + dt.timedelta(days=place)
        vocabulary.grow(by_day, config, by_day.features, day, day + dt.timedelta(days=1))
    found, other = (lake.read("vocabulary").toPandas().sort_values(["field", "id"]) for lake in (at_once, by_day))
    pd.testing.assert_frame_equal(found.reset_index(drop=True), other.reset_index(drop=True))
    both = pd.concat(raw.values())
    both["day"] = both["ts"].dt.date
    for field, column, count, window in (("item_id", "item", 3, 2), ("user_id", "user_id", 4, 3)):
        expected = {}
        for text, rows in both.groupby(both[column].astype(str)):
            for place in range((END - START).days):
                day = START + dt.timedelta(days=place)
                inside = rows[(rows["day"] <= day) & (rows["day"] > day - dt.timedelta(days=window))]
                if len(inside) >= count:
                    expected[text] = (day, len(inside), inside["day"].min())
                    break
        rows = found[found["field"] == field]
        known = zip(rows["admitted"], rows["count"], rows["first_seen"], strict=True)
        assert dict(zip(rows["token"], known, strict=True)) == expected
        assert len({day for day, _, _ in expected.values()}) > 1
