"""Log loss, normalised entropy and PCOC from sums that merge."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ecdctr.metrics.columns import Floats, checked_probabilities

# A float32 sigmoid reaches 0 and 1 exactly; nearer to them than its own resolution nothing is known.
EPSILON = 1e-7


def losses(label: Floats, probability: Floats) -> Floats:
    """Log loss of each row in nats, (N,); probabilities are kept `EPSILON` away from 0 and 1."""
    kept = np.clip(probability, EPSILON, 1.0 - EPSILON)
    return -np.where(label > 0.0, np.log(kept), np.log1p(-kept))


@dataclass
class LikelihoodSums:
    """Float64 sums over rows from which all three metrics follow.

    Attributes:
        rows: Number of rows.
        weight: Σ weight.
        clicks: Σ weight · label.
        predicted: Σ weight · probability.
        loss: Σ weight · log loss, in nats.
    """

    rows: int = 0
    weight: float = 0.0
    clicks: float = 0.0
    predicted: float = 0.0
    loss: float = 0.0

    def update(self, labels: npt.ArrayLike, probabilities: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Self:
        """Add rows."""
        label, probability, weight = checked_probabilities(labels, probabilities, weights)
        self.rows += len(label)
        self.weight += float(weight.sum())
        self.clicks += float(label @ weight)
        self.predicted += float(probability @ weight)
        self.loss += float(losses(label, probability) @ weight)
        return self

    def merge(self, other: Self) -> Self:
        """Add another part's sums."""
        self.rows += other.rows
        self.weight += other.weight
        self.clicks += other.clicks
        self.predicted += other.predicted
        self.loss += other.loss
        return self

    def sums(self) -> Floats:
        """All sums as one column, (5,), for `add` of another process."""
        return np.array([self.rows, self.weight, self.clicks, self.predicted, self.loss])

    def add(self, sums: Floats) -> Self:
        """Merge what `sums` gave of another part."""
        rows, *others = sums.tolist()
        return self.merge(type(self)(int(rows), *others))

    def compute(self) -> dict[str, float | None]:
        """The keys log_loss, normalized_entropy and pcoc; None where not defined."""
        if self.weight <= 0.0:
            return {"log_loss": None, "normalized_entropy": None, "pcoc": None}
        mean, rate = self.loss / self.weight, self.clicks / self.weight
        return {
            "log_loss": mean,
            "normalized_entropy": mean / _entropy(rate) if 0.0 < rate < 1.0 else None,
            "pcoc": self.predicted / self.clicks if self.clicks > 0.0 else None,
        }


def log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float | None:
    """Mean of -ln(probability given to what happened), in nats; lower is better, None without weight."""
    return LikelihoodSums().update(labels, probabilities, weights).compute()["log_loss"]


def normalized_entropy(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float | None:
    """Log loss over that of always predicting these rows' click rate; below 1 beats that constant.

    None where one class is missing (He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", 2014).
    """
    return LikelihoodSums().update(labels, probabilities, weights).compute()["normalized_entropy"]


def pcoc(labels: npt.ArrayLike, probabilities: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float | None:
    """Predicted over observed clicks: 1 is calibrated on the whole, 1.1 promises a tenth too much; None without clicks."""
    return LikelihoodSums().update(labels, probabilities, weights).compute()["pcoc"]


def _entropy(rate: float) -> float:
    return -(rate * math.log(rate) + (1.0 - rate) * math.log1p(-rate))
