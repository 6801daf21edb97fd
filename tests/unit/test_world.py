"""The simulated world against what its parameters promise."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ecdctr.config.simulator import WorldConfig
from ecdctr.datasets import traffic
from ecdctr.datasets.traffic import block_count, block_days, block_frame, calibrate, oracle_auc
from ecdctr.datasets.world import EVERGREEN, build_world, generator

pytestmark = pytest.mark.unit

WORLD = WorldConfig(days=44, users=2500, items=1500, ads=200, impressions_per_user_day=4, ad_share=0.1)
ONLY_INTEREST = {
    "quality_strength": 0,
    "propensity_strength": 0,
    "context_strength": 0,
    "burst_strength": 0,
    "interest_strength": 1,
    "latent_dim": 1,
}
"""With one latent dimension and nothing else in it, a score is plus or minus the user's interest."""


def everything(world: WorldConfig) -> pd.DataFrame:
    intercepts = calibrate(world)
    return pd.concat(
        [block_frame(world, intercepts, block, truth=True) for block in range(block_count(world))], ignore_index=True
    )


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    return everything(WORLD)


@pytest.fixture(scope="module")
def natural(log: pd.DataFrame) -> pd.DataFrame:
    return log[log["domain"] == 0]


@pytest.fixture(scope="module")
def ads(log: pd.DataFrame) -> pd.DataFrame:
    return log[log["domain"] == 1]


def test_a_block_is_the_same_whenever_it_is_made() -> None:
    intercepts = calibrate(WORLD)
    late_first = block_frame(WORLD, intercepts, 5)
    build_world.cache_clear()
    pd.testing.assert_frame_equal(block_frame(WORLD, calibrate(WORLD), 5), late_first)
    assert not block_frame(WORLD, intercepts, 4)["item"].head(50).equals(late_first["item"].head(50))


def test_another_seed_gives_another_log(log: pd.DataFrame) -> None:
    other = everything(WORLD.model_copy(update={"seed": 8}))
    assert len(other) != len(log)
    assert (other["item"].head(1000) != log["item"].head(1000)).mean() > 0.9


def test_later_days_change_nothing_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    intercepts = calibrate(WORLD)
    before = block_frame(WORLD, intercepts, 0)

    def other_future(seed: int, *key: int) -> np.random.Generator:
        return generator(seed + (key[0] == traffic.DAY_STREAM and key[-1] >= 20), *key)

    monkeypatch.setattr(traffic, "generator", other_future)
    after = block_frame(WORLD, intercepts, 0)
    assert not before.equals(after)
    pd.testing.assert_frame_equal(before[before["day"] < 20], after[after["day"] < 20])


def test_shares_and_click_rates_are_those_asked_for(natural: pd.DataFrame, ads: pd.DataFrame) -> None:
    assert len(ads) / (len(ads) + len(natural)) == pytest.approx(WORLD.ad_share, rel=0.05)
    assert natural["click"].mean() == pytest.approx(WORLD.natural_ctr, rel=0.08)
    assert ads["click"].mean() == pytest.approx(WORLD.ad_ctr, rel=0.15)


def test_impressions_per_day_of_presence() -> None:
    world = WORLD.model_copy(update={"cold_users": 0.0, "returning_users": 0.0, "days": 14})
    assert len(everything(world)) / (world.users * world.days) == pytest.approx(
        world.impressions_per_user_day * (5 + 2 * 1.15) / 7, rel=0.08
    )


def test_clicks_follow_the_true_probability(natural: pd.DataFrame) -> None:
    tenth = pd.qcut(natural["probability"], 10, labels=False)
    by_tenth = natural.groupby(tenth)[["click", "probability"]].mean()
    assert np.abs(by_tenth["click"] / by_tenth["probability"] - 1).max() < 0.1


def test_columns_tell_nothing_of_the_click_beyond_its_probability(natural: pd.DataFrame) -> None:
    rows = natural.sort_values(["user", "day", "microsecond"]).reset_index(drop=True)
    surprise = rows["click"] - rows["probability"]
    per_day = rows.groupby(["user", "day"])["click"].agg(["size", "mean"])
    tomorrow = per_day.reindex(pd.MultiIndex.from_arrays([rows["user"], rows["day"] + 1]))
    rows["seen_tomorrow"] = tomorrow["size"].fillna(0).to_numpy()
    rows["clicks_tomorrow"] = tomorrow["mean"].fillna(0).to_numpy()
    logged = ["item", "microsecond", "category", "brand", "position", "device", "region", "price", "item_age"]
    bound = 4.5 / np.sqrt(len(rows))
    for column in [*logged, "serial", "seen_tomorrow", "clicks_tomorrow"]:
        assert abs(np.corrcoef(surprise, rows[column])[0, 1]) < bound, column


def test_items_live_from_birth_and_ads_in_their_campaigns(natural: pd.DataFrame, ads: pd.DataFrame) -> None:
    world = build_world(WORLD)
    assert natural["item_age"].min() >= 0
    assert ads["item_age"].min() >= 0
    for domain, rows in (("natural", natural), ("ad", ads)):
        catalogue = world.catalogues[domain]
        order = np.argsort(catalogue.number)[rows["item"]]
        assert (catalogue.born[order] <= rows["day"]).all()
        assert (rows["day"] < catalogue.ends[order]).all()
        assert (catalogue.category[order] == rows["category"]).all()
    campaigns = world.catalogues["ad"]
    cold = (campaigns.born > 0) & (campaigns.ends < WORLD.days)
    assert cold.mean() > 0.3
    born_in_log = (world.catalogues["natural"].born > 0).mean()
    assert born_in_log == pytest.approx(WORLD.born_share, abs=0.05)


def test_popularity_halves() -> None:
    world = WORLD.model_copy(update={"half_life_days": 5.0})
    catalogue = build_world(world).catalogues["natural"]
    today, later = catalogue.popularity(0), catalogue.popularity(5)
    newborn = catalogue.born == 0
    np.testing.assert_allclose(later[newborn] / today[newborn], EVERGREEN + (1 - EVERGREEN) / 2)
    rows = everything(world)
    rows = rows[rows["domain"] == 0]
    followed = rows[rows["item"].isin(catalogue.number[(catalogue.born > 0) & (catalogue.born < 20)])]
    weeks = [followed["item_age"].between(low, low + 5).sum() for low in (0, 5, 10)]
    assert weeks[0] > 1.5 * weeks[1] > 1.5**2 * weeks[2]


def test_activity_and_popularity_have_heavy_tails(natural: pd.DataFrame) -> None:
    per_user = natural["user"].value_counts().to_numpy()
    per_item = natural["item"].value_counts().to_numpy()
    assert per_user[: len(per_user) // 10].sum() > 0.3 * per_user.sum()
    assert per_item[: len(per_item) // 10].sum() > 0.5 * per_item.sum()
    assert per_item[0] < 0.1 * per_item.sum()


def test_users_arrive_and_return(log: pd.DataFrame) -> None:
    busy = log[log.groupby("user")["day"].transform("nunique") >= 12]
    days = busy.drop_duplicates(["user", "day"]).sort_values(["user", "day"])
    gap = days.groupby("user")["day"].diff()
    share = days[gap >= WORLD.away_days[0]]["user"].nunique() / days["user"].nunique()
    assert 0.04 < share < 0.2
    first = days.groupby("user")["day"].min()
    assert 0.08 < (first >= 7).mean() < 0.3
    stays = everything(WORLD.model_copy(update={"returning_users": 0.0, "cold_users": 0.0, "activity_tail": 0.0}))
    each_day = stays.drop_duplicates(["user", "day"]).sort_values(["user", "day"])
    assert each_day.groupby("user")["day"].diff().max() < 10


def topic_correlation(shared_interest: float) -> float:
    """Correlation, over users and categories, of click rates on natural items and on ads, net of both's means."""
    rows = everything(
        WorldConfig(
            days=12,
            users=1000,
            items=600,
            ads=200,
            impressions_per_user_day=25,
            ad_share=0.4,
            ad_ctr=0.12,
            category_overlap=1,
            activity_tail=0.3,
            personalisation=0.2,
            shared_interest=shared_interest,
        )
    )
    rates = []
    for _, part in rows.groupby("domain"):
        means = [part.groupby(key)["click"].transform("mean") for key in ("user", "category")]
        net = part.assign(net=part["click"] - means[0] - means[1])
        rate = net.groupby(["user", "category"])["net"].agg(["mean", "size"])
        rates.append(rate[rate["size"] >= 5]["mean"])
    both = pd.concat(rates, axis=1, join="inner")
    return float(np.corrcoef(both.T)[0, 1])


def test_shared_interest_is_what_one_domain_says_of_the_other() -> None:
    none, some, all_of_it = (topic_correlation(shared) for shared in (0.0, 0.7, 1.0))
    assert abs(none) < 0.04
    assert some > 0.1
    assert all_of_it > some + 0.04


def test_natural_log_does_not_depend_on_what_ads_share(natural: pd.DataFrame) -> None:
    other = everything(WORLD.model_copy(update={"shared_interest": 0.0}))
    pd.testing.assert_frame_equal(
        other[other["domain"] == 0].reset_index(drop=True), natural.reset_index(drop=True), check_exact=True
    )


def test_ad_shift_moves_distributions() -> None:
    def distances(shift: float) -> tuple[float, float, float]:
        rows = everything(WORLD.model_copy(update={"ad_shift": shift, "ad_share": 0.3, "days": 10}))
        parts = [rows[rows["domain"] == at] for at in (0, 1)]
        shares = [part["position"].value_counts(normalize=True) for part in parts]
        hours = [(part["microsecond"] // 3_600_000_000).value_counts(normalize=True) for part in parts]
        prices = [np.log(part.drop_duplicates("item")["price"]).mean() for part in parts]
        return (
            float((shares[0] - shares[1]).abs().sum()),
            float((hours[0] - hours[1]).abs().sum()),
            float(prices[1] - prices[0]),
        )

    for none, full in zip(distances(0.0), distances(1.0), strict=True):
        assert abs(none) < 0.2
        assert full > 0.6


def test_categories_overlap_as_asked() -> None:
    for overlap, expected in ((0.0, 0), (0.7, 7), (1.0, 10)):
        catalogues = build_world(WorldConfig(category_overlap=overlap, ads=4000)).catalogues
        common = set(catalogues["natural"].category) & set(catalogues["ad"].category)
        assert len(common) == expected


def interest_by_day(world: WorldConfig) -> pd.DataFrame:
    """Users' interests, a row per user and a column per day, read off the scores."""
    built = build_world(world)
    found: dict[int, dict[int, float]] = {}
    for day, domain, rows in block_days(built, 0):
        if domain == "natural":
            catalogue = built.catalogues[domain]
            vectors = catalogue.vector[np.argsort(catalogue.number)[rows.columns["item"]], 0]
            found[day] = dict(zip(rows.columns["user"], rows.score * vectors, strict=True))
    return pd.DataFrame(found)


@pytest.mark.parametrize(("long_memory", "drift"), [(1.0, 0.5), (0.0, 0.05), (0.6, 0.2), (0.0, 1.0)])
def test_interests_keep_what_long_memory_says(long_memory: float, drift: float) -> None:
    world = WorldConfig(days=12, impressions_per_user_day=20, activity_tail=0, cold_users=0, returning_users=0)
    interests = interest_by_day(
        world.model_copy(update={**ONLY_INTEREST, "long_memory": long_memory, "drift": drift})
    ).dropna()
    assert len(interests) > 200
    for gap in (1, 10):
        expected = long_memory + (1 - long_memory) * (1 - drift) ** gap
        assert np.corrcoef(interests[0], interests[gap])[0, 1] == pytest.approx(expected, abs=0.17)
    assert interests.to_numpy().std() == pytest.approx(1, abs=0.15)


def test_bursts_last_days_and_stay_in_one_category() -> None:
    alone = {**ONLY_INTEREST, "interest_strength": 0, "burst_strength": 2.0, "days": 30}
    world = WORLD.model_copy(update={**alone, "burst_rate": 0.05, "impressions_per_user_day": 15.0})
    raised = []
    for day, domain, rows in block_days(build_world(world), 0):
        if domain == "natural":
            np.testing.assert_allclose(rows.score[rows.score > 0], 2.0)
            in_burst = rows.score > 0
            raised.append(
                pd.DataFrame({name: rows.columns[name][in_burst] for name in ("user", "category")}).assign(day=day)
            )
    per_day = pd.concat(raised).drop_duplicates()
    assert not per_day.duplicated(["user", "day"]).any()
    again = per_day.assign(day=per_day["day"] + 1).merge(per_day, on=["user", "day"], suffixes=("_before", ""))
    assert (again["category"] == again["category_before"]).mean() > 0.95
    quiet = build_world(world.model_copy(update={"burst_rate": 0.0}))
    assert not any(rows.score.any() for _, _, rows in block_days(quiet, 0))


def test_personalisation_shows_what_interests() -> None:
    def mean_score(personalisation: float) -> float:
        world = WORLD.model_copy(update={**ONLY_INTEREST, "latent_dim": 8, "personalisation": personalisation})
        return float(np.mean(np.concatenate([rows.score for _, _, rows in block_days(build_world(world), 0)])))

    assert mean_score(1.0) > mean_score(0.5) + 0.1 > mean_score(0.0) + 0.2


def test_oracle_auc_lies_where_real_logs_do(natural: pd.DataFrame) -> None:
    found = oracle_auc(WORLD)
    assert 0.70 < found["natural"] < 0.79
    assert 0.70 < found["ad"] < 0.79


@pytest.mark.parametrize(("domain", "least"), [(0, 0.61), (1, 0.55)])
def test_ids_alone_foretell_later_clicks(log: pd.DataFrame, domain: int, least: float) -> None:
    rows = log[log["domain"] == domain]
    past, later = rows[rows["day"] < 30], rows[rows["day"] >= 30]
    mean, score = past["click"].mean(), np.zeros(len(later))
    for key in (["user"], ["item"], ["user", "category"], ["brand"]):
        seen = past.groupby(key)["click"].agg(["sum", "size"])
        odds = np.log((seen["sum"] + 10 * mean) / (seen["size"] + 10) / mean).rename("odds")
        score += later.join(odds, on=key)["odds"].fillna(0).to_numpy()
    assert traffic._auc(later.assign(probability=score)) > least


@pytest.mark.parametrize(
    "wrong", [{"dayz": 3}, {"days": 0}, {"ad_share": 1.0}, {"away_days": (9, 3)}, {"shared_interest": 1.1}]
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WorldConfig.model_validate(wrong)


def test_every_parameter_is_documented_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    defaults = WorldConfig().model_dump(mode="json")
    for name, field in WorldConfig.model_fields.items():
        default = json.dumps(defaults[name]).strip('"')
        says = " ".join((field.description or "").split())
        assert says, name
        assert f"| `{name}` | {default} | {says} |" in page, name


def test_the_smallest_worlds_hold() -> None:
    smallest = WorldConfig(days=1, users=1, items=1, ads=1, categories=2, latent_dim=1, impressions_per_user_day=50)
    rows = everything(smallest)
    assert set(rows[rows["domain"] == 0]["item"]) == {0}
    empty = block_frame(smallest.model_copy(update={"impressions_per_user_day": 1e-9}), {"natural": 0.0, "ad": 0.0}, 0)
    assert list(empty.columns) == list(traffic.FRAME_COLUMNS)
    assert empty.empty
