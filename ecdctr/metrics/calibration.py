"""Does one in ten click where the model says one in ten? Bins of predicted probability, and their mean gap."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ecdctr.exceptions import InputError
from ecdctr.metrics.columns import Floats, checked_probabilities


@dataclass(frozen=True)
class Bin:
    """Rows of like prediction.

    Attributes:
        rows: Number of rows.
        weight: Σ weight.
        predicted: Mean probability.
        observed: Click rate.
    """

    rows: int
    weight: float
    predicted: float
    observed: float


class CalibrationBins:
    """Sums per bin of probability, at fixed edges, so that parts merge.

    Args:
        edges: Rising inner edges in (0, 1); a probability equal to an edge lies above it. K - 1 edges make K bins.
    """

    def __init__(self, edges: npt.ArrayLike) -> None:
        self.edges = np.asarray(edges, dtype=np.float64)
        inside = self.edges.ndim == 1 and bool(np.all((self.edges > 0.0) & (self.edges < 1.0)))
        if not inside or np.any(np.diff(self.edges) <= 0.0):
            raise InputError(f"calibration edges {self.edges.tolist()} were found, expected rising values in (0, 1)")
        # Rows of the array: number of rows, Σ weight, Σ weight · probability, Σ weight · label.
        self._sums = np.zeros((4, len(self.edges) + 1))

    @classmethod
    def of_equal_width(cls, bins: int = 10) -> Self:
        """Bins of width 1 / `bins`."""
        if bins < 1:
            raise InputError(f"{bins} calibration bins were asked for, expected 1 or more")
        return cls(np.arange(1, bins) / bins)

    @classmethod
    def of_equal_rows(cls, probabilities: npt.ArrayLike, bins: int = 10) -> Self:
        """Bins between quantiles of the given probabilities; ties never straddle an edge, so there may be fewer."""
        quantiles = np.quantile(np.asarray(probabilities, np.float64), np.arange(1, bins) / bins, method="higher")
        return cls(np.unique(quantiles[(quantiles > 0.0) & (quantiles < 1.0)]))

    def update(self, labels: npt.ArrayLike, probabilities: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Self:
        """Add rows."""
        label, probability, weight = checked_probabilities(labels, probabilities, weights)
        at = np.searchsorted(self.edges, probability, side="right")
        columns: tuple[Floats, ...] = (np.ones_like(weight), weight, weight * probability, weight * label)
        for row, column in enumerate(columns):
            self._sums[row] += np.bincount(at, column, len(self.edges) + 1)
        return self

    def merge(self, other: Self) -> Self:
        """Add another part's sums.

        Raises:
            InputError: The parts have different edges.
        """
        if not np.array_equal(self.edges, other.edges):
            raise InputError("calibration bins of different edges cannot be merged; fix the edges before")
        self._sums += other._sums
        return self

    def sums(self) -> Floats:
        """All sums as one column, (4 · K,), for `add` of another process."""
        return self._sums.ravel()

    def add(self, sums: Floats) -> Self:
        """Merge what `sums` gave of another part with the same edges."""
        self._sums += sums.reshape(self._sums.shape)
        return self

    def compute(self) -> list[Bin]:
        """Bins that have weight, from low to high predictions."""
        return [
            Bin(rows=int(rows), weight=float(weight), predicted=float(p / weight), observed=float(y / weight))
            for rows, weight, p, y in self._sums.T
            if weight > 0.0
        ]

    def error(self) -> float | None:
        """Expected calibration error: Σ weight · |predicted - observed| / Σ weight over bins; None without weight."""
        _, weight, predicted, observed = self._sums
        total = weight.sum()
        return float(np.abs(predicted - observed).sum() / total) if total > 0.0 else None


def calibration_bins(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    bins: int = 10,
) -> list[Bin]:
    """Bins of about equally many rows, from low to high predictions."""
    if not np.size(probabilities):
        return []
    return CalibrationBins.of_equal_rows(probabilities, bins).update(labels, probabilities, weights).compute()


def expected_calibration_error(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    bins: int = 10,
) -> float | None:
    """Mean gap between predicted and observed click rate over `bins` bins of equal width.

    0 is perfect; the figure depends on the bins, so compare only at equal ones (Naeini et al., AAAI 2015).
    """
    return CalibrationBins.of_equal_width(bins).update(labels, probabilities, weights).error()
