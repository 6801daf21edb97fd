"""Every kind of feature, as docs/features.md shows it: worked out without Spark, and blind to the future."""

import datetime as dt
import math
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from ecdctr.config.features import FeatureSpec
from ecdctr.etl.kinds import ENCODERS
from ecdctr.etl.prepare import prepare
from ecdctr.lake.tables import Lake
from tests.spark.conftest import START, small_config, write_small_logs
from tests.spark.test_prepare import encode, events, expected_vocabulary

pytestmark = [pytest.mark.spark, pytest.mark.timeout(3000)]

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text()
EXAMPLES = [
    spec
    for block in re.findall(r"^```yaml\n(- .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for spec in yaml.safe_load(block)
]
KINDS = [get_args(model.model_fields["kind"].annotation)[0] for model in get_args(get_args(FeatureSpec)[0])]
DAYS = 6
CUT = START + 4 * dt.timedelta(days=1)
EPOCH = dt.date(1970, 1, 1)
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


def read(lake, domain, until=None):
    files = lake.pin(f"{domain}_samples", until=until).files
    rows = pd.concat([pq.ParquetFile(f.path).read().to_pandas() for f in files], ignore_index=True)
    return rows.sort_values("event_id", ignore_index=True)


@pytest.fixture(scope="module")
def worlds(spark, tmp_path_factory):
    """Frames and samples: of the whole log, of one with another future, and of the whole log in two parts."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("whole", "other", "parts")}
    frames = {
        name: write_small_logs(folder, DAYS, other_future if name == "other" else add_columns)
        for name, folder in folders.items()
    }
    found, deleted = {}, {}
    for name, folder in folders.items():
        config = small_config(folder, name, {}, {"features": EXAMPLES})
        lake = Lake(spark, config.warehouse_dir)
        if name == "parts":
            prepare(spark, config, CUT)
            deleted = {domain: read(lake, domain) for domain in DOMAINS}
        prepare(spark, config, None)
        found[name] = {domain: read(lake, domain) for domain in DOMAINS}
    return frames["whole"], found, deleted


def test_the_page_has_an_example_of_every_kind_and_every_kind_an_encoder():
    assert {spec["kind"] for spec in EXAMPLES} == set(KINDS)
    assert {*ENCODERS, "sequence"} == set(KINDS)
    assert re.findall(r"^## `kind: (\w+)`", PAGE, re.MULTILINE) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_no_sample_before_a_day_changes_with_what_comes_at_or_after_it(worlds, make_config, kind):
    _, found, deleted = worlds
    specs = [spec for spec in make_config(features=EXAMPLES).dataset.features if spec.kind == kind]
    columns = ["event_id", *(column.name for spec in specs for column in spec.columns())]
    for domain in DOMAINS:
        whole = found["whole"][domain][columns]
        past = whole[found["whole"][domain]["day"] < (CUT - EPOCH).days].reset_index(drop=True)
        other = found["other"][domain]
        pd.testing.assert_frame_equal(past, other[other["day"] < (CUT - EPOCH).days][columns].reset_index(drop=True))
        pd.testing.assert_frame_equal(past, deleted[domain][columns])
        pd.testing.assert_frame_equal(whole, found["parts"][domain][columns])
    # A column that is the same for all rows would pass without telling anything.
    assert all(found["whole"]["natural"][name].astype(str).nunique() > 1 for name in columns)


@pytest.fixture(scope="module")
def rows(worlds):
    """Each raw event beside its sample, and all raw events in order."""
    frames, found, _ = worlds
    both = events(frames).sort_values(["ts", "event_id"], ignore_index=True)
    samples = pd.concat(found["whole"].values()).set_index("event_id")
    return both, [(raw, samples.loc[raw["event_id"]]) for _, raw in both.iterrows()]


def rounded(values):
    return [float(f"{value:.2e}") for value in values if not math.isnan(value)]


def between(both, day, first, last, domains=DOMAINS):
    """Events from `first` to `last` days before a day, both included."""
    age = both["day"].map(lambda d: (day - d).days)
    return both[(age <= first) & (age >= last) & both["domain"].isin(domains)]


def test_lists_hold_the_first_tokens_in_their_order(rows):
    both, pairs = rows
    parts = {text: [tag for tag in text.split("|") if tag] for text in both["tags"].dropna().unique()}
    spread = pd.DataFrame(
        [
            {"event_id": f"{raw['event_id']}-{tag}", "user_id": 0, "ts": raw["ts"], "domain": raw["domain"], "tag": tag}
            for raw, _ in pairs
            for tag in set(parts.get(raw["tags"], []))
        ]
    )
    words = expected_vocabulary({d: spread[spread["domain"] == d] for d in DOMAINS}, ["tag"], 2, 1, False)
    for raw, row in pairs:
        ids = [encode(words, tag, raw["day"], 1) for tag in parts.get(raw["tags"], [])][:3]
        assert row["tags"].tolist() == ids + [0] * (3 - len(ids))


def test_numbers_are_standardised_by_the_days_before(rows):
    both, pairs = rows
    for raw, row in pairs:
        price = raw["price"]
        assert row["price_plain"] == pytest.approx(-1.0 if math.isnan(price) else price, rel=1e-6)
        past = rounded(between(both, raw["day"], 2, 1)["price"])
        if math.isnan(price) or not past:
            assert row["price_standardised"] == 0.0
        else:
            wanted = min(max((price - np.mean(past)) / np.std(past), -10), 10)
            assert row["price_standardised"] == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_quantiles_are_those_of_the_days_before(rows):
    both, pairs = rows
    seen = set()
    for raw, row in pairs:
        past = sorted(rounded(between(both, raw["day"], 3, 1)["watch_seconds"]))
        if math.isnan(raw["watch_seconds"]) or not past:
            assert row["watched"] == 1
            continue
        boundaries = [past[math.ceil(len(past) * part / 4) - 1] for part in (1, 2, 3)]
        assert row["watched"] == 2 + sum(boundary < raw["watch_seconds"] for boundary in boundaries)
        seen.add(row["watched"])
    assert seen == {2, 3, 4, 5}


def test_ages_count_from_the_first_day_seen(rows):
    both, pairs = rows
    for raw, row in pairs:
        item = (raw["day"] - both[both["item"] == raw["item"]]["day"].min()).days
        assert row["item_age"] == (1 if item < 1 else 2 + (item >= 2) + (item >= 3))
        ads = both[(both["domain"] == "ad") & (both["user"] == raw["user"]) & (both["day"] < raw["day"])]["day"]
        age = 0 if ads.empty else (raw["day"] - ads.min()).days
        assert row["user_age_in_ads"] == (1 if age < 1 else 2 + (age >= 2))


def test_rates_are_those_of_the_windows_before(rows):
    both, pairs = rows

    def check(row, name, days, strength, whole, mine):
        mean = whole["click"].mean() if len(whole) else 0.0
        assert row[f"{name}_impressions_{days}d"] == pytest.approx(math.log1p(len(mine)), rel=1e-6)
        wanted = (mine["click"].sum() + strength * mean) / (len(mine) + strength)
        assert row[f"{name}_rate_{days}d"] == pytest.approx(wanted, rel=1e-6)

    for raw, row in pairs:
        for days in (1, 3):
            past = between(both, raw["day"], days, 1, ["natural"])
            check(row, "user_natural", days, 5, past, past[past["user"] == raw["user"]])
        past = between(both, raw["day"], 3, 2)
        check(row, "item", 2, 20, past, past[past["item"] == raw["item"]])
        past = between(both, raw["day"], 30, 1)
        same = past["category"].fillna("") == (raw["category"] or "")
        check(row, "user_category", 30, 20, past, past[(past["user"] == raw["user"]) & same])


def test_clicks_carry_their_attribute_and_their_time(rows):
    both, pairs = rows
    categories = expected_vocabulary(
        {d: both[both["domain"] == d] for d in DOMAINS}, ["category", "last_category"], 2, 1, True
    )
    clicks = both[(both["click"] == 1) & (both["domain"] == "natural")]
    for raw, row in pairs:
        past = clicks[(clicks["user"] == raw["user"]) & (clicks["ts"] < raw["ts"])].iloc[::-1][:3]
        pad = [0] * (3 - len(past))
        ids = [encode(categories, f"natural\x1f{c}", raw["day"], 1) if c else 1 for c in past["category"]]
        assert row["clicked_in_feed_category"].tolist() == ids + pad
        ages = [int((raw["ts"] - ts).total_seconds()).bit_length() for ts in past["ts"]]
        assert row["clicked_in_feed_times"].tolist() == [2 + age for age in ages] + pad
