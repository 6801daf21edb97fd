"""Where the truth is planted, the arms must find it: differences beyond their intervals, and none where nothing is."""

from pathlib import Path

import numpy as np
import pytest

from ecdctr.datasets.planted import Recipe, plant
from ecdctr.pipelines.planted import HEAD, TRIALS, Claim, Trial

pytestmark = pytest.mark.unit


@pytest.mark.campaign
@pytest.mark.parametrize("world_seed", [7, 8])
@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_what_is_planted_is_found(trial, world_seed):
    walked = trial.run(world_seed=world_seed)
    for claim in trial.claims:
        difference = claim.difference(walked)
        assert claim.holds(difference), (claim, difference)


def test_transfer_helps_where_interests_are_shared():
    trial = Trial(
        "small", "", Recipe(users=300, days=16, walk=4), (Claim("ecdctr_no_tpm", "target_only", "better", 0.02),)
    )
    (claim,) = trial.claims
    difference = claim.difference(trial.run(seeds=1))
    assert claim.holds(difference), difference


def test_a_world_is_its_seed_and_holds_what_its_recipe_says():
    recipe = Recipe(shared=False, away=0.5, price=(8.0, 4.0), days=30)
    world, again, other = plant(recipe, 3), plant(recipe, 3), plant(recipe, 4)
    assert all((world.ads[name] == again.ads[name]).all() for name in world.ads)
    assert len(world.ads["day"]) != len(other.ads["day"]) or (world.ads["user"] != other.ads["user"]).any()
    assert world.ads["category"].min() >= recipe.categories > world.natural["category"].max()
    assert world.ads["item"].min() >= recipe.items > world.natural["item"].max()
    gone = world.away[world.natural["user"]]
    assert world.natural["day"][gone].max() < world.walk[0] - recipe.away_days <= world.natural["day"][~gone].max()
    assert world.ads["day"][world.away[world.ads["user"]]].min() >= world.walk[0]
    assert np.isclose(world.ads["price"].mean(), 8, atol=0.5)


def test_liked_categories_are_clicked_more_often_in_both_domains_by_the_same_users():
    world = plant(Recipe(ad_rows=4.0), 3)
    rates = []
    for log in (world.natural, world.ads):
        cell = log["user"] * 6 + log["category"]
        clicks, shown = (np.bincount(cell, weights, 400 * 6) for weights in (log["label"], None))
        rates.append(np.divide(clicks, shown, out=np.zeros(len(shown)), where=shown > 0))
    assert np.corrcoef(*rates)[0, 1] > 0.6


@pytest.mark.parametrize(
    ("expected", "metric", "interval", "holds"),
    [
        ("better", "auc", (0.03, 0.05), True),
        ("better", "auc", (0.01, 0.05), False),
        ("better", "log_loss", (-0.05, -0.03), True),
        ("better", "log_loss", (0.03, 0.05), False),
        ("equal", "auc", (-0.01, 0.01), True),
        ("equal", "auc", (0.001, 0.01), False),
        ("equal", "auc", (-0.04, 0.01), False),
        ("no gain", "auc", (-0.2, 0.3), True),
        ("no gain", "auc", (0.001, 0.3), False),
    ],
)
def test_a_claim_is_judged_by_its_whole_interval(expected, metric, interval, holds):
    claim = Claim("a", "b", expected, 0.02, metric=metric)
    assert claim.holds({"low": interval[0], "high": interval[1]}) == holds


def test_the_page_tells_every_claim_and_each_as_seen():
    page = (Path(__file__).parents[2] / "docs" / "planted.md").read_text()
    assert page.startswith(HEAD)
    told = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(told) == sum(len(trial.claims) for trial in TRIALS)
    assert all(line.endswith("| yes |") for line in told)
    assert all(f"## {trial.name.capitalize()}" in page and trial.about in page for trial in TRIALS)
