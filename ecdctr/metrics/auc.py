"""Area under the ROC curve: exact from sorted scores, or binned where only sums can be kept."""

from typing import Self

import numpy as np
import numpy.typing as npt

from ecdctr.exceptions import InputError
from ecdctr.metrics.columns import Floats, Integers, checked, checked_probabilities

Integral = npt.NDArray[np.intp]


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float | None:
    """Probability that a click is scored above a non-click; a tie counts one half, exactly.

    0.5 is what a constant gets. Row weights weigh pairs by the product of their two weights.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,) any finite scores; only their order matters.
        weights: (N,) row weights.

    Returns:
        None where one class has no weight: there is no pair to order.

    Raises:
        InputError: Columns that are not as said.
    """
    label, score, weight = checked(labels, scores, weights)
    values, _, _ = grouped_auc(label, score, weight, np.zeros(len(label), np.int64), 1)
    return None if np.isnan(values[0]) else float(values[0])


def grouped_auc(
    label: Floats, score: Floats, weight: Floats, group: Integers, groups: int
) -> tuple[Floats, Floats, Floats]:
    """AUC within each group, by one sort of all rows.

    Within a group, AUC = Σ_r P_r · (N_<r + N_r / 2) / (P · N) over the runs r of equal scores, P_r and N_r being the
    weights of clicks and non-clicks in a run, N_<r that of non-clicks scored lower.

    Args:
        label: (N,) checked.
        score: (N,) checked.
        weight: (N,) checked.
        group: (N,) in 0 … groups - 1.
        groups: G.

    Returns:
        Three columns (G,): AUC, NaN where a class has no weight; weight of clicks; weight of all rows.
    """
    order, starts = runs(score, group)
    clicks, others = (label * weight)[order], ((1.0 - label) * weight)[order]
    if len(starts) < len(order):
        clicks, others = np.add.reduceat(clicks, starts), np.add.reduceat(others, starts)
    owner = group[order][starts]
    positives, negatives = (_sums(owner, part, groups) for part in (clicks, others))
    before = np.concatenate(([0.0], np.cumsum(negatives)))[:-1]
    below = np.cumsum(others) - others / 2.0 - before[owner]
    ordered = _sums(owner, clicks * below, groups)
    pairs = positives * negatives
    values = np.divide(ordered, pairs, out=np.full(groups, np.nan), where=pairs > 0.0)
    # Cumulative sums of fractional weights may overshoot by rounding.
    return np.clip(values, 0.0, 1.0), positives, positives + negatives


def runs(score: Floats, group: Integers | None = None) -> tuple[Integral, Integral]:
    """Order of rows by (group, score), and where in it each run of equal ones starts."""
    order = np.argsort(score, kind="stable") if group is None else np.lexsort((score, group))
    if not len(order):
        return order, np.zeros(0, np.intp)
    ranked = score[order]
    new = np.concatenate(([True], ranked[1:] != ranked[:-1]))
    if group is not None:
        owner = group[order]
        new[1:] |= owner[1:] != owner[:-1]
    return order, np.flatnonzero(new)


def _sums(group: Integers, values: Floats, groups: int) -> Floats:
    return np.bincount(group, values, groups).astype(np.float64, copy=False)


class BinnedAUC:
    """AUC of probabilities rounded to bins of equal width: sums that merge, not the exact AUC.

    Two scores in one bin count as tied, so that the result differs from `auc` by at most half the weight share of
    pairs within one bin.

    Args:
        bins: Number of bins over [0, 1].
    """

    def __init__(self, bins: int = 10_000) -> None:
        if bins < 1:
            raise InputError(f"{bins} bins were asked for, expected 1 or more")
        self.bins = bins
        self.clicks = np.zeros(bins)
        self.others = np.zeros(bins)

    def update(self, labels: npt.ArrayLike, probabilities: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Self:
        """Add rows."""
        label, probability, weight = checked_probabilities(labels, probabilities, weights)
        at = np.minimum((probability * self.bins).astype(np.int64), self.bins - 1)
        self.clicks += np.bincount(at, label * weight, self.bins)
        self.others += np.bincount(at, (1.0 - label) * weight, self.bins)
        return self

    def merge(self, other: Self) -> Self:
        """Add another part's sums.

        Raises:
            InputError: The parts have different bins.
        """
        if other.bins != self.bins:
            raise InputError(f"parts of {self.bins} and {other.bins} bins cannot be merged; use one number of bins")
        self.clicks += other.clicks
        self.others += other.others
        return self

    def sums(self) -> Floats:
        """All sums as one column, (2 · bins,), for `add` of another process."""
        return np.concatenate([self.clicks, self.others])

    def add(self, sums: Floats) -> Self:
        """Merge what `sums` gave of another part with as many bins."""
        clicks, others = sums.reshape(2, self.bins)
        self.clicks += clicks
        self.others += others
        return self

    def compute(self) -> float | None:
        """The binned AUC; None where one class has no weight."""
        pairs = self.clicks.sum() * self.others.sum()
        below = np.cumsum(self.others) - self.others / 2.0
        return float((self.clicks * below).sum() / pairs) if pairs > 0.0 else None


def binned_auc(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    bins: int = 10_000,
) -> float | None:
    """AUC after rounding probabilities to bins of equal width; see `BinnedAUC`."""
    return BinnedAUC(bins).update(labels, probabilities, weights).compute()
