"""The metrics of a report's row, for all rows or for parts of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ecdctr.exceptions import InputError
from ecdctr.metrics.auc import auc, binned_auc
from ecdctr.metrics.calibration import expected_calibration_error
from ecdctr.metrics.columns import codes
from ecdctr.metrics.gauc import GAUC
from ecdctr.metrics.likelihood import LikelihoodSums

Summary = dict[str, Any]
ACTIVITY_EDGES = (1, 2, 5, 10)


def summary(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    users: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> Summary:
    """The metrics of contract §6 and, beside them, the binned AUC, both other GAUCs and the calibration error.

    Args:
        labels: (N,) of 0 and 1.
        probabilities: (N,) in [0, 1].
        users: (N,) strings or integers.
        weights: (N,) row weights; rows and clicks are counted without them.

    Returns:
        rows, clicks, auc, gauc, log_loss, normalized_entropy, pcoc, binned_auc, gauc_clicks, gauc_mean and
        expected_calibration_error as plain integers and floats; None for what cannot be computed, never an invented 0.5.

    Raises:
        InputError: Columns that are not as said.
    """
    sums = LikelihoodSums().update(labels, probabilities, weights)
    within_users = GAUC().update(labels, probabilities, users, weights)
    return {
        "rows": sums.rows,
        "clicks": int(np.asarray(labels, np.float64).sum()),
        "auc": auc(labels, probabilities, weights),
        "gauc": within_users.compute(),
        **sums.compute(),
        "binned_auc": binned_auc(labels, probabilities, weights),
        "gauc_clicks": within_users.compute_clicks(),
        "gauc_mean": within_users.compute_mean(),
        "expected_calibration_error": expected_calibration_error(labels, probabilities, weights),
    }


def by_activity(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    users: npt.ArrayLike,
    *,
    edges: Sequence[int] = ACTIVITY_EDGES,
) -> dict[str, Summary]:
    """Metrics by how many of these rows a user has.

    Args:
        labels: (N,) of 0 and 1.
        probabilities: (N,) in [0, 1].
        users: (N,) strings or integers.
        edges: First row count of each bucket, rising; the last bucket has no end.

    Returns:
        A summary per bucket that has rows, named like "1", "2-4", "10+".

    Raises:
        InputError: Edges that do not rise, or columns that are not as said.
    """
    label, probability = np.asarray(labels), np.asarray(probabilities)
    group, _ = codes(users, len(label))
    bucket, names = activity_buckets(np.bincount(group)[group], edges)
    parts = {name: bucket == index for index, name in enumerate(names)}
    return {name: summary(label[part], probability[part], group[part]) for name, part in parts.items() if part.any()}


def activity_buckets(
    counts: npt.NDArray[np.int64], edges: Sequence[int] = ACTIVITY_EDGES
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Sort row counts into buckets of activity.

    Args:
        counts: (N,), how many rows the user of each row has.
        edges: First row count of each bucket, rising; the last bucket has no end.

    Returns:
        The bucket of each row, (N,), -1 below the first edge; and the names of all buckets, like "1", "2-4", "10+".

    Raises:
        InputError: Edges that do not rise.
    """
    if list(edges) != sorted(set(edges)) or not edges:
        raise InputError(f"activity edges {list(edges)} were found, expected rising row counts")
    ends: list[int | None] = [*(edge - 1 for edge in edges[1:]), None]
    names = [
        f"{first}+" if last is None else str(first) if last == first else f"{first}-{last}"
        for first, last in zip(edges, ends, strict=True)
    ]
    return np.searchsorted(np.asarray(edges), counts, side="right") - 1, names


def by_flag(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    users: npt.ArrayLike,
    flags: npt.ArrayLike,
    *,
    names: tuple[str, str] = ("cold", "warm"),
) -> dict[str, Summary]:
    """Metrics of flagged and of other rows, such as users without an earlier ad.

    Args:
        labels: (N,) of 0 and 1.
        probabilities: (N,) in [0, 1].
        users: (N,) strings or integers.
        flags: (N,) booleans.
        names: Of the flagged part and of the rest; a part without rows is left out.
    """
    label, probability = np.asarray(labels), np.asarray(probabilities)
    flag = np.asarray(flags, dtype=bool)
    if flag.shape != label.shape:
        raise InputError(f"flags of shape {flag.shape} were found, expected {label.shape}")
    group, _ = codes(users, len(label))
    return {
        name: summary(label[part], probability[part], group[part])
        for name, part in zip(names, (flag, ~flag), strict=True)
        if part.any()
    }
