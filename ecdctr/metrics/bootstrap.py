"""Is a difference between two models more than chance? Paired bootstrap over users."""

from collections.abc import Callable, Iterator
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
    """Confidence interval of metric(`probabilities`) - metric(`baseline`) on the same rows.

    A resample gives each user a Poisson(1) weight that all rows of the user carry, in both models alike: users are
    independent, the rows of one are not, and what is hard for both models cancels out. The interval is that of
    percentiles. Same seed, same interval, whatever the order of rows.

    Args:
        labels: (N,) of 0 and 1.
        probabilities: (N,) of the arm.
        baseline: (N,) of the arm it is compared with.
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
    if metric not in METRICS:
        raise InputError(f"metric {metric!r} was asked for, expected one of {', '.join(METRICS)}")
    if not 0.0 < level < 1.0 or resamples < 1:
        raise InputError(f"level {level} and {resamples} resamples were found, expected one in (0, 1) and 1 or more")
    label, first, _ = checked_probabilities(labels, probabilities)
    _, second, _ = checked_probabilities(labels, baseline)
    group, count = codes(users, len(label))
    if metric == "gauc":
        label, first, second, group, count = _with_both_classes(label, first, second, group, count)
    if count < 2:
        return None
    values = [METRICS[metric](label, score, group, count) for score in (first, second)]
    whole = np.ones((1, count))
    difference = float(values[0](whole)[0] - values[1](whole)[0])
    found = np.concatenate([values[0](w) - values[1](w) for w in _weights(resamples, count, len(label), seed)])
    found = found[~np.isnan(found)]
    if np.isnan(difference) or 2 * len(found) < resamples:
        return None
    low, high = np.quantile(found, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return {"difference": difference, "low": float(low), "high": float(high), "users": count, "level": level}


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
    label: Floats, first: Floats, second: Floats, group: Integers, count: int
) -> tuple[Floats, Floats, Floats, Integers, int]:
    clicks, shown = np.bincount(group, label, count), np.bincount(group, minlength=count)
    both = (clicks > 0.0) & (clicks < shown)
    rows = both[group]
    return label[rows], first[rows], second[rows], (np.cumsum(both) - 1)[group[rows]], int(both.sum())


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
