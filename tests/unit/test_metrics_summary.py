"""Rows of a report, their parts, and forgetting."""

import math

import numpy as np
import pytest

from ecdctr.exceptions import InputError
from ecdctr.metrics import (
    auc,
    backward_transfer,
    binned_auc,
    by_activity,
    by_flag,
    expected_calibration_error,
    forgetting_curve,
    gauc,
    gauc_clicks,
    gauc_mean,
    summary,
)

pytestmark = pytest.mark.unit

LABEL = np.array([1, 0, 0, 1, 0, 0, 1, 0])
SCORE = np.array([0.9, 0.2, 0.3, 0.4, 0.6, 0.1, 0.8, 0.5])
USER = np.array(["a", "a", "b", "c", "c", "c", "c", "c"])


def test_summary_has_the_keys_of_the_contract_as_plain_numbers():
    found = summary(LABEL, SCORE, USER)
    assert list(found) == [
        "rows", "clicks", "auc", "gauc", "log_loss", "normalized_entropy", "pcoc",
        "binned_auc", "gauc_clicks", "gauc_mean", "expected_calibration_error",
    ]  # fmt: skip
    assert (found["rows"], found["clicks"]) == (8, 3)
    assert type(found["rows"]) is int
    assert type(found["clicks"]) is int
    assert all(type(found[name]) is float for name in list(found)[2:])
    assert found["auc"] == auc(LABEL, SCORE)
    assert found["gauc"] == gauc(LABEL, SCORE, USER)
    assert found["gauc_clicks"] == gauc_clicks(LABEL, SCORE, USER)
    assert found["gauc_mean"] == gauc_mean(LABEL, SCORE, USER)
    assert found["binned_auc"] == binned_auc(LABEL, SCORE)
    assert found["expected_calibration_error"] == expected_calibration_error(LABEL, SCORE)


def test_one_class_gives_nulls_but_a_log_loss():
    found = summary([0, 0], [0.1, 0.2], ["a", "b"])
    assert {name for name, value in found.items() if value is None} == {
        "auc", "binned_auc", "gauc", "gauc_clicks", "gauc_mean", "normalized_entropy", "pcoc",
    }  # fmt: skip
    assert found["expected_calibration_error"] == pytest.approx(0.15)
    empty = summary([], [], [])
    assert [name for name, value in empty.items() if value is not None] == ["rows", "clicks"]


def test_weights_count_rows_that_many_times():
    twice = np.repeat(np.arange(8), 2)
    weighed, repeated = summary(LABEL, SCORE, USER, np.full(8, 2.0)), summary(LABEL[twice], SCORE[twice], USER[twice])
    for name in weighed.keys() - {"rows", "clicks"}:
        assert weighed[name] == pytest.approx(repeated[name])
    assert weighed["rows"] == 8


def test_activity_counts_rows_per_user():
    found = by_activity(LABEL, SCORE, USER)
    assert {name: part["rows"] for name, part in found.items()} == {"1": 1, "2-4": 2, "5-9": 5}
    assert found["5-9"] == summary(LABEL[3:], SCORE[3:], USER[3:])
    assert list(by_activity(LABEL, SCORE, USER, edges=(1, 3))) == ["1-2", "3+"]
    with pytest.raises(InputError, match="rising"):
        by_activity(LABEL, SCORE, USER, edges=(5, 2))


def test_users_below_the_first_edge_are_left_out():
    assert {name: part["rows"] for name, part in by_activity(LABEL, SCORE, USER, edges=(2,)).items()} == {"2+": 7}


def test_flags_part_the_rows():
    found = by_flag(LABEL, SCORE, USER, USER == "c")
    assert {name: part["rows"] for name, part in found.items()} == {"cold": 5, "warm": 3}
    assert list(by_flag(LABEL, SCORE, USER, np.zeros(8, bool))) == ["warm"]
    with pytest.raises(InputError, match="flags of shape"):
        by_flag(LABEL, SCORE, USER, [True])


def test_backward_transfer_by_hand():
    nan = math.nan
    scores = [[0.70, nan, nan], [0.68, 0.72, nan], [0.64, 0.71, 0.75]]
    assert backward_transfer(scores) == pytest.approx((0.64 - 0.70 + 0.71 - 0.72) / 2)
    assert forgetting_curve(scores) == pytest.approx([0.0, (-0.02 - 0.01) / 2, -0.06])
    assert backward_transfer([[0.7]]) is None
    assert backward_transfer([[nan, nan], [0.6, 0.7]]) is None
    with pytest.raises(InputError, match="expected"):
        backward_transfer([[0.1, 0.2]])
