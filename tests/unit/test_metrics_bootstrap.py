"""Intervals over users: reproducible, of the right width, honest about what cannot be told."""

import time

import numpy as np
import pytest

from ecdctr.exceptions import InputError
from ecdctr.metrics import auc, gauc, interval, log_loss, paired_bootstrap, resample, smallest_visible_difference

pytestmark = pytest.mark.unit

METRICS = {"auc": auc, "log_loss": log_loss}


def world(seed=0, users=600, per_user=12, skill=0.0):
    """Rows with a true probability; two noisy views of it, the first better by `skill`."""
    rng = np.random.default_rng(seed)
    size = users * per_user
    user = rng.integers(0, users, size).astype(str)
    truth = rng.normal(size=size)
    label = (rng.uniform(size=size) < 1 / (1 + np.exp(-truth + 2))).astype(float)
    first = 1 / (1 + np.exp(-(truth + rng.normal(size=size) * (1.5 - skill)) + 2))
    second = 1 / (1 + np.exp(-(truth + rng.normal(size=size) * 1.5) + 2))
    return label, first.round(3), second.round(3), user


@pytest.mark.parametrize("metric", ["auc", "gauc", "log_loss"])
def test_difference_is_that_of_the_metrics_and_the_seed_decides_the_interval(metric):
    label, first, second, user = world()
    found = paired_bootstrap(label, first, second, user, metric=metric, seed=5, resamples=200)
    function = METRICS.get(metric) or (lambda y, p: gauc(y, p, user))
    assert found["difference"] == pytest.approx(function(label, first) - function(label, second))
    assert found["low"] < found["difference"] < found["high"]
    assert found == paired_bootstrap(label, first, second, user, metric=metric, seed=5, resamples=200)
    assert found != paired_bootstrap(label, first, second, user, metric=metric, seed=6, resamples=200)
    shuffled = np.random.default_rng(1).permutation(len(label))
    again = paired_bootstrap(
        label[shuffled], first[shuffled], second[shuffled], user[shuffled], metric=metric, seed=5, resamples=200
    )
    assert again == pytest.approx(found)


@pytest.mark.parametrize("metric", ["auc", "gauc", "log_loss"])
def test_resampled_metric_equals_the_metric_of_repeated_rows(metric):
    """One Poisson draw, done by hand: rows repeated as often as their user was drawn."""
    label, first, second, user = world(users=40)
    weights = np.random.default_rng(9).poisson(1.0, (1, 40))[0]
    names = np.unique(user)
    if metric == "gauc":
        both = [0 < label[user == name].mean() < 1 for name in names]
        names = names[both]
        weights = np.random.default_rng(9).poisson(1.0, (1, len(names)))[0]
    drawn = dict(zip(names.tolist(), weights.tolist(), strict=True))
    times = np.array([drawn.get(name, 0) for name in user])
    index = np.repeat(np.arange(len(label)), times)
    copy = np.concatenate([np.arange(n) for n in times if n] or [[]]).astype(int)
    clones = np.array([f"{user[i]}/{c}" for i, c in zip(index, copy, strict=True)])
    function = METRICS.get(metric) or (lambda y, p: gauc(y, p, clones))
    expected = function(label[index], first[index]) - function(label[index], second[index])
    found = paired_bootstrap(label, first, second, user, metric=metric, seed=9, resamples=1)
    assert found["low"] == pytest.approx(expected)


def test_equal_arms_differ_by_nothing():
    label, first, _, user = world()
    found = paired_bootstrap(label, first, first, user, metric="auc", resamples=50)
    assert found["difference"] == found["low"] == found["high"] == 0.0


@pytest.mark.parametrize("metric", ["auc", "gauc", "log_loss"])
def test_seeds_enter_by_their_mean_under_the_same_users(metric):
    label, first, second, user = world(users=200)
    third = np.clip(first + 0.3 * (second - first), 0, 1)
    options = {"metric": metric, "resamples": 120, "seed": 4}
    single = [resample(label, score, user, **options) for score in (first, second, third)]
    arm = resample(label, np.stack([first, third]), user, **options)
    assert arm.by_seed.tolist() == [single[0].value, single[2].value]
    np.testing.assert_allclose(arm.drawn, (single[0].drawn + single[2].drawn) / 2)
    found = interval(arm, resample(label, np.stack([second, second]), user, **options))
    low, high = np.quantile((single[0].drawn + single[2].drawn) / 2 - single[1].drawn, [0.025, 0.975])
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert found == paired_bootstrap(label, np.stack([first, third]), np.stack([second, second]), user, **options)


def test_resamples_of_other_rows_are_not_paired():
    few, many = (
        resample(*(np.asarray(c) for c in (y, p, u)), metric="auc", resamples=5)
        for y, p, _, u in (world(users=20), world(users=30))
    )
    with pytest.raises(InputError, match="cannot be paired"):
        interval(few, many)


def test_a_real_gain_is_seen_and_equal_skill_is_seldom_called_a_gain():
    label, first, second, user = world(skill=1.0)
    assert paired_bootstrap(label, first, second, user, metric="auc", resamples=300)["low"] > 0
    missed = 0
    for seed in range(60):
        found = paired_bootstrap(*world(seed, users=150), metric="auc", resamples=200, seed=seed)
        missed += not found["low"] <= 0.0 <= found["high"]
    # Of 60 intervals of 95 %, 3 miss on average; 10 or more would happen once in a thousand times.
    assert missed < 10


def test_thirty_thousand_rows_take_few_seconds():
    label, first, second, user = world(users=5000, per_user=6)
    started = time.process_time()
    for metric in ("auc", "gauc", "log_loss"):
        paired_bootstrap(label, first, second, user, metric=metric, resamples=200)
    assert time.process_time() - started < 6.0


def test_what_cannot_be_told_is_none():
    assert paired_bootstrap([0, 0], [0.1, 0.2], [0.2, 0.1], ["a", "b"], metric="auc") is None
    assert paired_bootstrap([0, 1], [0.1, 0.2], [0.2, 0.1], ["a", "a"], metric="auc") is None
    assert paired_bootstrap([0, 1], [0.1, 0.2], [0.2, 0.1], ["a", "b"], metric="gauc") is None
    assert paired_bootstrap([], [], [], [], metric="log_loss") is None


@pytest.mark.parametrize("wrong", [{"metric": "rmse"}, {"level": 1.0}, {"resamples": 0}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(InputError):
        paired_bootstrap([0, 1], [0.1, 0.2], [0.2, 0.1], ["a", "b"], **wrong)


def test_smallest_visible_difference_is_two_point_eight_standard_errors():
    assert smallest_visible_difference(-1.96, 1.96) == pytest.approx(2.80, abs=0.01)
