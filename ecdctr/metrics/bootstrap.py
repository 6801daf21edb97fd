"""Is a difference between two models more than chance? Paired bootstrap over users."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from ecdctr.exceptions import InputError
from ecdctr.metrics.auc import grouped_auc, runs
from ecdctr.metrics.columns import Floats, Integers, checked_probabilities, codes
from ecdctr.metrics.likelihood import losses

# Elements of one block of resampled rows: 32 MiB of float64.
BLOCK = 1 << 22

# A metric of every resample: user weights (R, U) → values (R,), NaN where not defined.
Resampled = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Resamples:
    """A metric, and what it would be with other users.

    Attributes:
        by_seed: The metric of each seed's predictions, (S,).
        drawn: (R,) means over the seeds on resampled users; NaN where it cannot be computed.
        users: Those that the metric rests on (for gauc: with both classes).
    """

    by_seed: Floats
    drawn: Floats
    users: int

    @property
    def value(self) -> float:
        """Mean over the seeds."""
        return float(self.by_seed.mean())


def resample(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    users: npt.ArrayLike,
    *,
    metric: str = "gauc",
    resamples: int = 1000,
    seed: int = 0,
) -> Resamples | None:
    """A metric of one model on resampled users.

    A resample gives each user a Poisson(1) weight that all rows of the user carry: users are independent, the rows of
    one are not. Same seed, same weights, whatever the order of rows and the model; so what two models get on the same
    rows is paired.

    Args:
        labels: (N,) of 0 and 1.
        probabilities: (N,) of one model, or (S, N) of one model trained with S seeds: in each resample the metric is
            computed for each seed with the same weights, then averaged over the seeds.
        users: (N,) strings or integers.
        metric: auc, gauc (weighted by impressions) or log_loss.
        resamples: R.
        seed: Of the weights.

    Returns:
        None with fewer than two users.

    Raises:
        InputError: An unknown metric, no resamples, or columns that are not as said.
    """
    if metric not in METRICS:
        raise InputError(f"metric {metric!r} was asked for, expected one of {', '.join(METRICS)}")
    if resamples < 1:
        raise InputError(f"{resamples} resamples were asked for, expected 1 or more")
    scores = [checked_probabilities(labels, row)[1] for row in np.atleast_2d(np.asarray(probabilities, np.float64))]
    label = np.asarray(labels, np.float64)
    group, count = codes(users, len(label))
    if metric == "gauc":
        label, scores, group, count = _with_both_classes(label, scores, group, count)
    if count < 2:
        return None
    values = [METRICS[metric](label, score, group, count) for score in scores]
    by_seed = np.array([value(np.ones((1, count)))[0] for value in values])
    drawn = [np.mean([value(w) for value in values], axis=0) for w in _weights(resamples, count, len(label), seed)]
    return Resamples(by_seed, np.concatenate(drawn), count)


def interval(arm: Resamples | None, baseline: Resamples | None, level: float = 0.95) -> dict[str, Any] | None:
    """Percentile interval of the difference of two models that were resampled on the same rows with the same seed.

    What is hard for both models cancels out.

    Returns:
        difference, low, high, users, level. None where the metric or half of its resamples cannot be computed.

    Raises:
        InputError: A level outside (0, 1), or models that were resampled on other rows.
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"level {level} was asked for, expected one in (0, 1)")
    if arm is None or baseline is None:
        return None
    if arm.users != baseline.users or arm.drawn.shape != baseline.drawn.shape:
        raise InputError(
            f"resamples of {arm.users} and {baseline.users} users cannot be paired",
            hint="resample both on the same rows",
        )
    difference = arm.value - baseline.value
    found = arm.drawn - baseline.drawn
    found = found[~np.isnan(found)]
    if np.isnan(difference) or 2 * len(found) < len(arm.drawn):
        return None
    low, high = np.quantile(found, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return {"difference": difference, "low": float(low), "high": float(high), "users": arm.users, "level": level}


def paired_bootstrap(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    baseline: npt.ArrayLike,
    users: npt.ArrayLike,
    *,
    metric: str = "gauc",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Confidence interval of metric(`probabilities`) - metric(`baseline`) on the same rows; see `resample`, `interval`.

    Args:
        labels: (N,) of 0 and 1.
        probabilities: (N,) of the arm, or (S, N) of its seeds.
        baseline: As `probabilities`, of the arm it is compared with.
        users: (N,) strings or integers.
        metric: auc, gauc (weighted by impressions) or log_loss (where a negative difference is the better one).
        resamples: R.
        level: Of confidence.
        seed: Of the weights.

    Returns:
        difference, low, high, users, level; users counts those that the metric rests on (for gauc: with both classes).
        None where the metric or half of its resamples cannot be computed, or with fewer than two users.

    Raises:
        InputError: An unknown metric, a level outside (0, 1), no resamples, or columns that are not as said.
    """
    first, second = (
        resample(labels, scores, users, metric=metric, resamples=resamples, seed=seed)
        for scores in (probabilities, baseline)
    )
    return interval(first, second, level)


def smallest_visible_difference(low: float, high: float, level: float = 0.95, power: float = 0.8) -> float:
    """The true difference that an interval of this width would tell from zero, `power` of the time.

    (z_level + z_power) standard errors, the standard error being the half-width over z_level.
    """
    z_level, z_power = NormalDist().inv_cdf((1.0 + level) / 2.0), NormalDist().inv_cdf(power)
    return (high - low) / 2.0 * (z_level + z_power) / z_level


def _weights(resamples: int, users: int, rows: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    step = max(1, BLOCK // max(users, rows))
    for start in range(0, resamples, step):
        yield rng.poisson(1.0, (min(step, resamples - start), users)).astype(np.float64)


def _with_both_classes(
    label: Floats, scores: list[Floats], group: Integers, count: int
) -> tuple[Floats, list[Floats], Integers, int]:
    clicks, shown = np.bincount(group, label, count), np.bincount(group, minlength=count)
    both = (clicks > 0.0) & (clicks < shown)
    rows = both[group]
    kept = [score[rows] for score in scores]
    return label[rows], kept, (np.cumsum(both) - 1)[group[rows]], int(both.sum())


def _auc(label: Floats, score: Floats, group: Integers, count: int) -> Resampled:
    order, starts = runs(score)
    owner, clicked = group[order], label[order]
    tied = len(starts) < len(order)

    def value(weights: Floats) -> Floats:
        rows = weights[:, owner]
        clicks = rows * clicked
        others = rows - clicks
        if tied:
            clicks, others = (np.add.reduceat(part, starts, axis=1) for part in (clicks, others))
        below = np.cumsum(others, axis=1) - others / 2.0
        pairs = clicks.sum(axis=1) * others.sum(axis=1)
        return _divided(np.einsum("rn,rn->r", clicks, below), pairs)

    return value


def _gauc(label: Floats, score: Floats, group: Integers, count: int) -> Resampled:
    values, _, impressions = grouped_auc(label, score, np.ones_like(label), group, count)
    return lambda weights: _divided(weights @ (values * impressions), weights @ impressions)


def _log_loss(label: Floats, score: Floats, group: Integers, count: int) -> Resampled:
    loss, rows = np.bincount(group, losses(label, score), count), np.bincount(group, minlength=count)
    return lambda weights: _divided(weights @ loss, weights @ rows.astype(np.float64))


def _divided(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0.0)


METRICS: dict[str, Callable[[Floats, Floats, Integers, int], Resampled]] = {
    "auc": _auc,
    "gauc": _gauc,
    "log_loss": _log_loss,
}
