"""Metrics of predictions that one machine could not hold: sums where the rows lie, added on the driver."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.lake.python_workers import keep_archives_read
from ecdctr.metrics import GAUC, BinnedAUC, CalibrationBins, LikelihoodSums

COLUMNS = ("label", "probability", "user_id", "weight")


def _metrics() -> dict[str, Any]:
    return {
        "likelihood": LikelihoodSums(),
        "gauc": GAUC(),
        "binned_auc": BinnedAUC(),
        "calibration": CalibrationBins.of_equal_width(),
    }


def metrics_on_spark(frame: DataFrame) -> dict[str, float | int | None]:
    """The metrics that are sums, each equal to what `ecdctr.metrics` makes of the same rows on one machine.

    The exact AUC is none of them: it needs all scores in one place.

    Args:
        frame: Columns `label`, `probability` and `user_id` as in the table `predictions`; `weight` where rows have one.

    Returns:
        rows, binned_auc, gauc, gauc_clicks, gauc_mean, users (with both classes), log_loss, normalized_entropy, pcoc,
        expected_calibration_error; None for what cannot be computed.
    """
    weighed = frame if "weight" in frame.columns else frame.withColumn("weight", F.lit(1.0))
    # All rows of a user in one partition, which is all that GAUC asks for.
    parts = weighed.select(*COLUMNS).repartition("user_id").mapInPandas(_sums, "metric string, sums array<double>")
    found = _metrics()
    for row in parts.toLocalIterator():
        found[row["metric"]].add(np.array(row["sums"]))
    gauc = found["gauc"]
    return {
        "rows": found["likelihood"].rows,
        "binned_auc": found["binned_auc"].compute(),
        "gauc": gauc.compute(),
        "gauc_clicks": gauc.compute_clicks(),
        "gauc_mean": gauc.compute_mean(),
        "users": gauc.users,
        **found["likelihood"].compute(),
        "expected_calibration_error": found["calibration"].error(),
    }


def _sums(batches: Iterable[pd.DataFrame]) -> Iterable[pd.DataFrame]:
    keep_archives_read()
    parts = list(batches)
    if not parts:
        return
    rows = pd.concat(parts, ignore_index=True)
    label, probability, weight = (rows[name].to_numpy(np.float64) for name in ("label", "probability", "weight"))
    found = _metrics()
    found["gauc"].update(label, probability, rows["user_id"].to_numpy(), weight)
    for name in ("likelihood", "binned_auc", "calibration"):
        found[name].update(label, probability, weight)
    yield pd.DataFrame({"metric": list(found), "sums": [metric.sums() for metric in found.values()]})
