"""Metrics against scikit-learn and against the plainest code that can be written."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from ecdctr.exceptions import InputError
from ecdctr.metrics import (
    GAUC,
    BinnedAUC,
    CalibrationBins,
    LikelihoodSums,
    auc,
    binned_auc,
    calibration_bins,
    expected_calibration_error,
    gauc,
    gauc_clicks,
    gauc_mean,
    log_loss,
    normalized_entropy,
    pcoc,
)

pytestmark = pytest.mark.unit

# Few distinct probabilities, so that ties are the rule.
rows = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(1, 9).map(lambda tenths: tenths / 10),
        st.integers(0, 4),
        st.floats(0.125, 4.0, width=32),
    ),
    max_size=40,
)


def columns(found):
    label, probability, user, weight = (np.array(column) for column in zip(*found, strict=True)) if found else [[]] * 4
    return np.asarray(label), np.asarray(probability), np.asarray(user, int), np.asarray(weight)


def pairwise_auc(label, score, weight):
    won = total = 0.0
    for clicked, high, w in zip(label, score, weight, strict=True):
        for other, low, v in zip(label, score, weight, strict=True):
            if clicked == 1 and other == 0:
                total += w * v
                won += w * v * (1.0 if high > low else 0.5 if high == low else 0.0)
    return won / total if total else None


def naive_gauc(label, score, user, weight):
    """AUC, weight and clicks of each user with both classes."""
    for name in sorted(set(user.tolist())):
        mine = user == name
        value = pairwise_auc(label[mine], score[mine], weight[mine])
        if value is not None:
            yield value, weight[mine].sum(), (weight * label)[mine].sum()


@given(rows)
def test_auc_is_the_share_of_ordered_pairs(found):
    label, score, _, weight = columns(found)
    assert auc(label, score, weight) == pytest.approx(pairwise_auc(label, score, weight))


@given(rows)
def test_gauc_equals_the_naive_loop_under_each_weighting(found):
    label, score, user, weight = columns(found)
    parts = list(naive_gauc(label, score, user, weight))
    for function, share in (
        (gauc, lambda p: p[1]),
        (gauc_clicks, lambda p: p[2]),
        (gauc_mean, lambda p: 1.0),
    ):
        total = sum(map(share, parts))
        expected = sum(p[0] * share(p) for p in parts) / total if parts else None
        assert function(label, score, user, weight) == pytest.approx(expected)


@pytest.mark.parametrize("decimals", [1, 2, 9])
@pytest.mark.parametrize("weighted", [False, True])
def test_scikit_learn_agrees(decimals, weighted):
    rng = np.random.default_rng(decimals)
    probability = rng.uniform(0.01, 0.99, 5000).round(decimals)
    label = (rng.uniform(size=5000) < probability * 0.4).astype(float)
    weight = rng.exponential(size=5000) if weighted else None
    inside = np.clip(probability, 1e-6, 1 - 1e-6)
    assert auc(label, probability, weight) == pytest.approx(
        roc_auc_score(label, probability, sample_weight=weight), abs=1e-12
    )
    assert log_loss(label, inside, weight) == pytest.approx(sklearn_log_loss(label, inside, sample_weight=weight))


def test_three_definitions_of_gauc_differ_on_one_example():
    label = np.array([1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0])
    score = np.array([9, 1, 2, 3, 4, 5, 6, 7, 1, 2, 8, 7]) / 10
    user = np.array(["a"] * 8 + ["b"] * 4)
    # User a: AUC 1 with 8 impressions and 1 click; user b: 1/3 with 4 impressions and 3 clicks.
    assert gauc(label, score, user) == pytest.approx((8 + 4 / 3) / 12)
    assert gauc_clicks(label, score, user) == pytest.approx((1 + 3 / 3) / 4)
    assert gauc_mean(label, score, user) == pytest.approx((1 + 1 / 3) / 2)


@pytest.mark.parametrize("label", [[], [0, 0], [1, 1]])
def test_one_class_has_no_order(label):
    score, user = [0.1, 0.9][: len(label)], ["u", "u"][: len(label)]
    assert auc(label, score) is None
    assert binned_auc(label, score) is None
    assert gauc(label, score, user) is None
    assert normalized_entropy(label, score) is None


def test_users_of_one_class_do_not_count():
    label, score, user = [1, 0, 0, 1], [0.9, 0.1, 0.5, 0.2], ["both", "both", "none", "all"]
    assert gauc(label, score, user) == 1.0


def test_a_user_of_half_of_all_rows_and_a_million_rows_take_little_time():
    rng = np.random.default_rng(3)
    size = 1_000_000
    user = rng.integers(0, 60_000, size)
    user[: size // 2] = 7
    names = np.array([f"user-{number}" for number in range(60_000)], dtype=object)[user]
    label, score = (rng.uniform(size=size) < 0.05).astype(float), rng.uniform(size=size)
    started = time.process_time()  # what others take of a busy machine does not count
    value = gauc(label, score, names)
    assert time.process_time() - started < 4.0
    assert value == pytest.approx(0.5, abs=0.01)


def test_integer_and_text_users_are_the_same_groups():
    rng = np.random.default_rng(0)
    label, score, user = rng.integers(0, 2, 500), rng.uniform(size=500), rng.integers(0, 30, 500)
    assert gauc(label, score, user) == pytest.approx(gauc(label, score, user.astype(str)), abs=1e-15)
    assert gauc(label, score, user) == pytest.approx(gauc(label, score, user.astype(str).astype(object)), abs=1e-15)


def test_likelihood_by_hand():
    label, probability = [1, 0, 0, 0], [0.5, 0.25, 0.25, 0.5]
    loss = (2 * math.log(2) + 2 * math.log(4 / 3)) / 4
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert log_loss(label, probability) == pytest.approx(loss)
    assert normalized_entropy(label, probability) == pytest.approx(loss / entropy)
    assert normalized_entropy(label, [0.25] * 4) == pytest.approx(1.0)
    assert pcoc(label, probability) == pytest.approx(1.5)
    assert pcoc([0, 0], [0.1, 0.1]) is None


def test_certain_and_wrong_is_bounded_by_the_resolution_of_float32():
    assert log_loss([1], [0.0]) == pytest.approx(math.log(1e7))


@given(rows, st.integers(0, 40))
@settings(max_examples=60)
def test_merged_parts_equal_the_whole(found, cut):
    label, probability, user, weight = columns(sorted(found, key=lambda row: row[2]))
    # A user is never in two parts: what GAUC asks for and the others do not mind.
    cut = int(np.searchsorted(user, user[cut])) if cut < len(user) else len(user)
    first, second = (label[:cut], probability[:cut], weight[:cut]), (label[cut:], probability[cut:], weight[cut:])
    for make in (LikelihoodSums, BinnedAUC, CalibrationBins.of_equal_width):
        merged = make().update(*first).merge(make().update(*second))
        whole = make().update(label, probability, weight)
        assert _flat(merged.compute()) == pytest.approx(_flat(whole.compute()), nan_ok=True)
    merged = (
        GAUC()
        .update(first[0], first[1], user[:cut], first[2])
        .merge(GAUC().update(second[0], second[1], user[cut:], second[2]))
    )
    whole = GAUC().update(label, probability, user, weight)
    assert merged.users == whole.users
    for name in ("compute", "compute_clicks", "compute_mean"):
        assert getattr(merged, name)() == pytest.approx(getattr(whole, name)())


def _flat(computed):
    if isinstance(computed, list):
        return [value for part in computed for value in (part.rows, part.weight, part.predicted, part.observed)]
    values = computed.values() if isinstance(computed, dict) else [computed]
    return [math.nan if value is None else value for value in values]


def test_binned_auc_is_exact_where_bins_hold_one_score_and_near_otherwise():
    rng = np.random.default_rng(1)
    score = rng.integers(0, 100, 3000) / 100 + 0.005
    label = (rng.uniform(size=3000) < score).astype(float)
    assert binned_auc(label, score, bins=100) == pytest.approx(auc(label, score), abs=1e-12)
    fine = rng.uniform(size=3000)
    assert binned_auc(label, fine) == pytest.approx(auc(label, fine), abs=1e-4)


def test_calibration_by_hand():
    label, probability = [0, 1, 1, 1], [0.05, 0.05, 0.85, 0.95]
    # |0.05 - 0.5| on two rows, |0.85 - 1| and |0.95 - 1| on one each.
    assert expected_calibration_error(label, probability) == pytest.approx((2 * 0.45 + 0.15 + 0.05) / 4)
    assert expected_calibration_error([], []) is None
    low, high = calibration_bins(label, probability, bins=2)
    assert (low.rows, low.observed, high.rows) == (2, 0.5, 2)
    assert high.predicted == pytest.approx(0.9)


def test_calibration_bins_hold_about_equal_rows_and_never_split_ties():
    rng = np.random.default_rng(2)
    probability = rng.beta(1, 30, 10_000)
    found = calibration_bins((rng.uniform(size=10_000) < probability).astype(float), probability)
    assert len(found) == 10
    assert all(abs(part.rows - 1000) <= 1 for part in found)
    assert len(calibration_bins([0, 1, 0], [0.2, 0.2, 0.2])) == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: auc([0, 2], [0.1, 0.2]), "label 2.0"),
        (lambda: auc([0, 1], [0.1, float("nan")]), "not finite"),
        (lambda: auc([0, 1], [0.1]), "2 labels, 1 scores"),
        (lambda: auc([0, 1], [0.1, 0.2], [1, -1]), "negative"),
        (lambda: auc([[0, 1]], [[0.1, 0.2]]), "one column"),
        (lambda: log_loss([0, 1], [0.1, 1.2]), r"expected \[0, 1\]"),
        (lambda: gauc([0, 1], [0.1, 0.2], ["u"]), "users of shape"),
        (lambda: binned_auc([0], [0.1], bins=0), "0 bins"),
        (lambda: BinnedAUC(5).merge(BinnedAUC(6)), "5 and 6 bins"),
        (lambda: CalibrationBins([0.5, 0.4]), "rising"),
        (lambda: CalibrationBins([0.5]).merge(CalibrationBins([0.4])), "different edges"),
        (lambda: expected_calibration_error([0], [0.1], bins=0), "0 calibration bins"),
    ],
)
def test_bad_columns_are_named(call, said):
    with pytest.raises(InputError, match=said):
        call()
