"""Metrics of click prediction: numpy and float64 only, exact on ties and weights, null where nothing can be said.

Definitions, with worked examples: docs/metrics.md.
"""

from ecdctr.metrics.auc import BinnedAUC, auc, binned_auc
from ecdctr.metrics.bootstrap import Resamples, interval, paired_bootstrap, resample, smallest_visible_difference
from ecdctr.metrics.calibration import CalibrationBins, calibration_bins, expected_calibration_error
from ecdctr.metrics.forgetting import backward_transfer, forgetting_curve
from ecdctr.metrics.gauc import GAUC, gauc, gauc_clicks, gauc_mean
from ecdctr.metrics.likelihood import LikelihoodSums, log_loss, normalized_entropy, pcoc
from ecdctr.metrics.summary import activity_buckets, by_activity, by_flag, summary

__all__ = [
    "GAUC",
    "BinnedAUC",
    "CalibrationBins",
    "LikelihoodSums",
    "Resamples",
    "activity_buckets",
    "auc",
    "backward_transfer",
    "binned_auc",
    "by_activity",
    "by_flag",
    "calibration_bins",
    "expected_calibration_error",
    "forgetting_curve",
    "gauc",
    "gauc_clicks",
    "gauc_mean",
    "interval",
    "log_loss",
    "normalized_entropy",
    "paired_bootstrap",
    "pcoc",
    "resample",
    "smallest_visible_difference",
    "summary",
]
