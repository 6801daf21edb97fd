"""AUC within users, averaged: how well each user's own ads are ordered."""

from typing import Self

import numpy as np
import numpy.typing as npt

from ecdctr.metrics.auc import grouped_auc
from ecdctr.metrics.columns import Floats, checked, codes


class GAUC:
    """Sums of per-user AUC under three weightings, over users with both classes.

    Merging parts equals the whole where no user is in two parts, as after `repartition("user")` on Spark.

    Attributes:
        users: Number of users with both classes so far.
    """

    def __init__(self) -> None:
        self.users = 0
        # Rows: weighted by impressions, by clicks, plainly. Columns: Σ weight · AUC, Σ weight.
        self._sums = np.zeros((3, 2))

    def update(
        self,
        labels: npt.ArrayLike,
        scores: npt.ArrayLike,
        users: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> Self:
        """Add all rows of some users; each row's `weights` count as that many impressions."""
        label, score, weight = checked(labels, scores, weights)
        group, groups = codes(users, len(label))
        values, clicks, impressions = grouped_auc(label, score, weight, group, groups)
        both = ~np.isnan(values)
        value = values[both]
        for row, share in enumerate((impressions[both], clicks[both], np.ones_like(value))):
            self._sums[row] += (share @ value, share.sum())
        self.users += int(both.sum())
        return self

    def merge(self, other: Self) -> Self:
        """Add the sums of other users."""
        self._sums += other._sums
        self.users += other.users
        return self

    def sums(self) -> Floats:
        """All sums as one column, (7,), for `add` of another process."""
        return np.concatenate([[self.users], self._sums.ravel()])

    def add(self, sums: Floats) -> Self:
        """Merge what `sums` gave of other users."""
        self.users += int(sums[0])
        self._sums += sums[1:].reshape(self._sums.shape)
        return self

    def compute(self) -> float | None:
        """Weighted by impressions: the GAUC of the literature and of the reports here."""
        return self._mean(0)

    def compute_clicks(self) -> float | None:
        """Weighted by clicks."""
        return self._mean(1)

    def compute_mean(self) -> float | None:
        """Each user alike."""
        return self._mean(2)

    def _mean(self, row: int) -> float | None:
        total, weight = self._sums[row]
        return float(total / weight) if weight > 0.0 else None


def gauc(
    labels: npt.ArrayLike, scores: npt.ArrayLike, users: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float | None:
    """AUC within each user, averaged by impressions over users with both classes; 0.5 is a constant's.

    Users who clicked everything or nothing say nothing about order and are left out, weight and all
    (Zhu et al., "Optimized Cost per Click in Taobao Display Advertising", 2017).

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,) any finite scores.
        users: (N,) strings or integers.
        weights: (N,) row weights.

    Returns:
        None where no user has both classes.

    Raises:
        InputError: Columns that are not as said.
    """
    return GAUC().update(labels, scores, users, weights).compute()


def gauc_clicks(
    labels: npt.ArrayLike, scores: npt.ArrayLike, users: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float | None:
    """As `gauc`, averaged by clicks: not comparable with `gauc`."""
    return GAUC().update(labels, scores, users, weights).compute_clicks()


def gauc_mean(
    labels: npt.ArrayLike, scores: npt.ArrayLike, users: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float | None:
    """As `gauc`, each user counted alike: not comparable with `gauc`."""
    return GAUC().update(labels, scores, users, weights).compute_mean()
