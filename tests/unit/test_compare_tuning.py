"""Tuning: the same trials for every arm, on days before the walk, of what A-CTR's training reads alone."""

import datetime as dt
from collections import Counter
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from ecdctr.config import load_config
from ecdctr.config.schema import HoldoutConfig
from ecdctr.datasets.planted import Recipe, plant
from ecdctr.exceptions import InputError
from ecdctr.pipelines import compare as compare_module
from ecdctr.pipelines import compare_tuning as tuning_module
from ecdctr.pipelines import walks as walks_module
from ecdctr.pipelines.clock import DAY
from ecdctr.pipelines.compare_tuning import (
    SEED_OFFSET,
    Draw,
    best,
    draws,
    training_of,
    tune,
    tuning_window,
    with_training,
)
from ecdctr.pipelines.daily import walk
from ecdctr.pipelines.planted import levels
from ecdctr.pipelines.planted_walk import START, PlantedPublisher, PlantedWorkspace, planted_config
from ecdctr.report.comparison import Comparison
from ecdctr.report.comparison_html import render_comparison_html
from ecdctr.report.results_page import render_page
from tests.unit.test_comparison_report import example

pytestmark = pytest.mark.unit

SIMULATED = Path(__file__).parents[2] / "conf" / "datasets" / "simulated.yml"
SINCE = dt.date(2024, 2, 10)
ARMS = ["ecdctr", "star", "target_only"]


@pytest.fixture(scope="module")
def config():
    holdout = HoldoutConfig(since=dt.date(2024, 2, 8), until=SINCE)
    return load_config(SIMULATED, [f"arms=[{','.join(ARMS)}]"]).model_copy(update={"holdout": holdout})


def test_the_first_trial_is_the_configuration_and_more_trials_begin_with_those_of_fewer():
    found = draws(40, seed=3)
    assert found[0] == Draw()
    assert found[:5] == draws(5, seed=3)
    assert found[1:] != draws(40, seed=4)[1:]
    assert all(0.25 <= factor <= 4 for draw in found for factor in (draw.dense, draw.sparse))
    assert {draw.batch for draw in found} == {0.5, 1.0, 2.0}


def test_trials_move_the_arm_s_own_training_and_nothing_that_earlier_levels_read(config):
    draw = draws(2, seed=3)[1]
    for arm in ARMS:
        settings = draw.settings(training_of(config, arm))
        tried = with_training(config, arm, settings)
        assert training_of(tried, arm).model_dump().items() >= settings.items()
        assert training_of(tried, arm).epochs == training_of(config, arm).epochs
        for level in ("tpm", "cpm"):
            assert tried.model_digest(level) == config.model_digest(level)
        assert tried.model_digest("actr") != config.model_digest("actr")
    assert with_training(config, "star", {"batch_size": 7}).levels == config.levels
    assert with_training(config, "ecdctr", {}).model_digest() == config.model_digest()
    assert Draw().settings(training_of(config, "ecdctr")) == {}


def test_tuning_days_end_where_the_walk_begins_and_leave_a_day_to_learn_from():
    assert tuning_window(SINCE, 3, dt.date(2024, 1, 1)) == (dt.date(2024, 2, 7), SINCE)
    assert tuning_window(SINCE, 30, dt.date(2024, 2, 7)) == (dt.date(2024, 2, 8), SINCE)
    with pytest.raises(InputError, match="2024-02-09"):
        tuning_window(SINCE, 3, dt.date(2024, 2, 9))


def trial(auc: float | None) -> dict:
    return {"metrics": {"auc": auc}}


def test_the_best_is_chosen_of_equals_the_earlier_and_never_one_without_a_value():
    assert best([trial(0.6), trial(0.7), trial(0.7)]) == 1
    assert best([trial(None), trial(0.4)]) == 1
    assert best([trial(None), trial(None)]) == 0


class Opened:
    """Remembers what is walked; an arm's AUC is better the nearer its learning rate is to 0.002."""

    def __init__(self, config) -> None:
        self.config, self.walked = config, []

    def first_day(self, table: str) -> dt.date:
        return dt.date(2024, 1, 1)

    @contextmanager
    def using(self, config):
        before, self.config = self.config, config
        yield self
        self.config = before


def tuned(config, monkeypatch, trials: int = 6):
    def walk(opened, since, until, publisher):
        opened.walked.append((opened.config, since, until))
        return SimpleNamespace(trained={"actr": 1})

    def load(opened, arms, since, until):
        rate = training_of(opened.config, arms[0]).dense_learning_rate
        wrong = min(40, round(abs(rate - 0.002) * 20_000))
        label = [0, 1] * 50
        return pd.DataFrame(
            {
                "label": label,
                "probability": [0.9 if (clicked == 1) == (row >= wrong) else 0.1 for row, clicked in enumerate(label)],
                "user_id": [str(row % 9) for row in range(100)],
            }
        )

    monkeypatch.setattr(walks_module, "walk", walk)
    monkeypatch.setattr(tuning_module, "load_predictions", load)
    opened = Opened(config)
    return opened, tune(opened, config, SINCE, trials, 3)


def test_every_arm_gets_the_same_trials_on_the_days_before_and_the_nearest_one_is_chosen(config, monkeypatch):
    opened, found = tuned(config, monkeypatch)
    assert [walked.arms for walked, _, _ in opened.walked] == [[arm] for arm in ARMS for _ in range(6)]
    assert {(since, until) for _, since, until in opened.walked} == {(dt.date(2024, 2, 7), SINCE)}
    (seed,) = {walked.seed for walked, _, _ in opened.walked}
    assert seed not in range(config.seed, config.seed + 1000)
    assert {told["seed"] for told in found.values()} == {seed}
    assert all(walked.holdout is None for walked, _, _ in opened.walked)
    assert opened.config is config
    factors = {}
    for arm, told in found.items():
        usual = training_of(config, arm).dense_learning_rate
        rates = [each["settings"].get("dense_learning_rate", usual) for each in told["trials"]]
        factors[arm] = [rate / usual for rate in rates]
        assert told["trials"][0]["settings"] == {}
        assert told["chosen"] == min(range(6), key=lambda at: round(abs(rates[at] - 0.002) * 20_000))
    assert factors["ecdctr"] == factors["target_only"] == pytest.approx(factors["star"], rel=1e-2)


def test_trials_of_one_arm_share_its_parents_and_a_second_search_trains_nothing(tmp_path, monkeypatch):
    world = plant(Recipe(users=120, days=14, walk=4, natural_rows=2.0), seed=7)
    arms = ["ecdctr_no_tpm", "target_only"]
    small = planted_config(arms, levels=levels(), warehouse=tmp_path)
    with PlantedWorkspace(small, world) as opened:
        published = PlantedPublisher(opened)
        monkeypatch.setattr(walks_module, "walk", lambda opened, *window, publisher: walk(opened, *window, published))
        monkeypatch.setattr(
            tuning_module, "load_predictions", lambda opened, arms, *window: published.scored(arms[0]).to_pandas()
        )
        since = START + dt.timedelta(days=world.walk[1])
        first = tune(opened, small, since, 2, 2)
        trained = [(entry.level, entry.arm) for entry in published.found]
        assert tune(opened, small, since, 2, 2) == first
        with opened.using(small.model_copy(update={"seed": small.seed + SEED_OFFSET})):
            rows = len(published.scored("target_only"))
    assert len(published.found) == len(trained)
    assert Counter(trained) == {("cpm", "plain"): 1, ("actr", "ecdctr_no_tpm"): 4, ("actr", "target_only"): 4}
    assert {entry.date for entry in published.found if entry.level == "actr"} == {since - 2 * DAY, since - DAY}
    for told in first.values():
        assert {trial["metrics"]["rows"] for trial in told["trials"]} == {rows}


def test_an_arm_is_walked_with_what_was_chosen_for_it_alone(config):
    chosen = {"ecdctr": {"batch_size": 64}, "target_only": {}}
    assert compare_module._of_arm(config, "ecdctr", chosen).levels.actr.training.batch_size == 64
    assert compare_module._of_arm(config, "target_only", chosen) is config
    assert compare_module._of_arm(config, "star", {}) is config


@pytest.mark.parametrize(
    ("until", "asked", "held"),
    [
        (SINCE, {}, HoldoutConfig(since=dt.date(2024, 2, 8), until=SINCE)),
        (SINCE, {"forgetting_days": 2}, HoldoutConfig(since=dt.date(2024, 2, 8), until=SINCE)),
        (SINCE, {"forgetting_days": 0}, None),
        (SINCE, {"forgetting_days": 1}, "--forgetting-days 1 holds out rows of 2024-02-09 … 2024-02-09"),
        (SINCE + DAY, {"trials": 2}, "expected days before the walk, which begins on 2024-02-10"),
    ],
)
def test_what_is_held_out_is_settled_before_anything_is_walked(config, tmp_path, monkeypatch, until, asked, held):
    class Walked(Exception):
        pass

    def walks(opened, outings, window, lanes):
        raise Walked({outing.config.holdout for outing in outings})

    monkeypatch.setattr(compare_module, "workspace", lambda *_: nullcontext(Opened(config)))
    monkeypatch.setattr(compare_module, "lanes_for", lambda *_: 1)
    monkeypatch.setattr(compare_module, "prepare_tables", lambda *_: None)
    monkeypatch.setattr(compare_module, "walk_window", lambda *_: (SINCE, SINCE + 3 * DAY))
    monkeypatch.setattr(compare_module, "tune", lambda *_: pytest.fail("nothing is to be tried"))
    monkeypatch.setattr(compare_module, "run_walks", walks)
    holdout = HoldoutConfig(since=dt.date(2024, 2, 8), until=until)
    given = config.model_copy(update={"holdout": holdout, "runs": tmp_path})
    if isinstance(held, str):
        with pytest.raises(InputError, match=held):
            compare_module.compare_arms(given, seeds=2, **asked)
        return
    with pytest.raises(Walked) as found:
        compare_module.compare_arms(given, seeds=2, **asked)
    assert found.value.args == ({held},)


@pytest.mark.parametrize("asked", [{"trials": -1}, {"trials": 2, "tuning_days": 0}, {"seeds": 0}])
def test_fewer_than_no_trials_are_refused(config, asked):
    with pytest.raises(InputError, match="were asked for"):
        compare_module.compare_arms(config, **asked)


def test_the_search_is_in_the_file_the_page_and_the_results(config, monkeypatch):
    _, found = tuned(config, monkeypatch, trials=3)
    tree = example()
    assert "tuned" not in render_comparison_html(Comparison.model_validate(tree))
    for arm in tree["arms"].values():
        arm["tuning"] = SimpleNamespace(**found["ecdctr"]).__dict__
    comparison = Comparison.model_validate(tree)
    again = Comparison.model_validate_json(comparison.model_dump_json(by_alias=True))
    assert again.arms["ecdctr"].tuning.trials[1].settings.keys() == found["ecdctr"]["trials"][1]["settings"].keys()
    page = render_comparison_html(comparison)
    assert "How the arms were tuned" in page
    assert page.count("(walked)") == len(tree["arms"])
    assert "as configured" in page
    told = render_page(comparison)
    assert (
        "Every arm was tuned with 3 trials on 2024-02-07 … 2024-02-09 (100 impressions, 50 clicks), before the walked days"
        in told
    )
    assert "## The search" in told
