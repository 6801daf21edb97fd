"""Metrics added up on Spark are those of one machine: ties, users of one class, weights, no rows."""

import numpy as np
import pandas as pd
import pytest

from ecdctr.metrics import (
    GAUC,
    binned_auc,
    expected_calibration_error,
    gauc,
    gauc_clicks,
    gauc_mean,
    log_loss,
    normalized_entropy,
    pcoc,
)  # fmt: skip
from ecdctr.scoring.spark_metrics import metrics_on_spark

pytestmark = pytest.mark.spark


def predictions(rows: int = 3000, weighted: bool = True) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    user = rng.integers(0, 400, rows)
    # Few distinct scores, so that ties are many; one user in five never clicks.
    score = rng.integers(1, 40, rows) / 40
    label = ((rng.random(rows) < score) & (user % 5 > 0)).astype(np.int32)
    frame = pd.DataFrame({"user_id": [f"u{at}" for at in user], "label": label, "probability": score})
    return frame.assign(weight=rng.integers(0, 4, rows) / 2) if weighted else frame


@pytest.mark.parametrize("weighted", [True, False])
def test_spark_and_one_machine_agree_whatever_the_partitions(spark, weighted):
    frame = predictions(weighted=weighted)
    found = metrics_on_spark(spark.createDataFrame(frame).repartition(5))
    label, score, user = (frame[name].to_numpy() for name in ("label", "probability", "user_id"))
    weight = frame["weight"].to_numpy() if weighted else None
    expected = {
        "binned_auc": binned_auc, "log_loss": log_loss, "normalized_entropy": normalized_entropy, "pcoc": pcoc,
        "expected_calibration_error": expected_calibration_error,
    }  # fmt: skip
    for name, metric in expected.items():
        assert found[name] == pytest.approx(metric(label, score, weight), rel=1e-12), name
    for name, by_user in (("gauc", gauc), ("gauc_clicks", gauc_clicks), ("gauc_mean", gauc_mean)):
        assert found[name] == pytest.approx(by_user(label, score, user, weight), rel=1e-12), name
    assert found["rows"] == len(frame)
    assert found["users"] == GAUC().update(label, score, user, weight).users


def test_no_rows_give_no_numbers(spark):
    empty = spark.createDataFrame(predictions(10)).limit(0)
    assert metrics_on_spark(empty) == {
        "rows": 0, "users": 0,
        **dict.fromkeys(
            ("binned_auc", "gauc", "gauc_clicks", "gauc_mean", "log_loss", "normalized_entropy", "pcoc",
             "expected_calibration_error")
        ),
    }  # fmt: skip
