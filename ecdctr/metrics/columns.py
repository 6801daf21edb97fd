"""Checked input columns: what every metric may take for granted."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ecdctr.exceptions import InputError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def checked(
    labels: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> tuple[Floats, Floats, Floats]:
    """Labels, scores and row weights as float64 columns of one length.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,) finite.
        weights: (N,) finite and not negative; by default 1 for each row.

    Raises:
        InputError: Unequal lengths, labels other than 0 and 1, scores or weights that are not as said.
    """
    label, score = _column("labels", labels), _column("scores", scores)
    weight = np.ones_like(label) if weights is None else _column("weights", weights)
    if not len(label) == len(score) == len(weight):
        raise InputError(
            f"columns of {len(label)} labels, {len(score)} scores and {len(weight)} weights; one length was expected"
        )
    odd = label[(label != 0.0) & (label != 1.0)]
    if odd.size:
        raise InputError(
            f"label {odd[0]} was found, expected 0 or 1 ({odd.size} such rows)", hint="map clicks to 1, all else to 0"
        )
    if not np.isfinite(score).all():
        raise InputError(
            f"{int((~np.isfinite(score)).sum())} of {len(score)} scores are not finite",
            hint="look for diverged training or a failed join of predictions",
        )
    if weight.size and not (np.isfinite(weight).all() and weight.min() >= 0.0):
        raise InputError("a row weight is negative or not finite; weights of 0 or more were expected")
    return label, score, weight


def checked_probabilities(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> tuple[Floats, Floats, Floats]:
    """As `checked`, the scores being probabilities.

    Raises:
        InputError: Also for a probability outside [0, 1].
    """
    label, score, weight = checked(labels, probabilities, weights)
    if score.size and not (score.min() >= 0.0 and score.max() <= 1.0):
        raise InputError(
            f"probabilities lie in [{score.min()}, {score.max()}], expected [0, 1]",
            hint="apply the sigmoid to logits first",
        )
    return label, score, weight


def codes(users: npt.ArrayLike, rows: int) -> tuple[Integers, int]:
    """Number users 0 … U - 1 in the order of their names, so that the order of rows does not matter.

    Args:
        users: (N,) strings or integers.
        rows: N.

    Returns:
        The number of each row's user, (N,), and U.

    Raises:
        InputError: Another length than `rows`.
    """
    column = np.asarray(users)
    if column.shape != (rows,):
        raise InputError(f"a column of users of shape {column.shape} was found, expected ({rows},)")
    if column.dtype.kind in "iu":
        names, numbered = np.unique(column, return_inverse=True)
        return numbered.astype(np.int64), len(names)
    # Hashing objects once and sorting only distinct ones is 10 times as fast as np.unique on a million strings.
    first: dict[Any, int] = {}
    seen = np.fromiter((first.setdefault(user, len(first)) for user in column.tolist()), np.int64, rows)
    place = np.empty(len(first), np.int64)
    place[[first[user] for user in sorted(first)]] = np.arange(len(first))
    return place[seen], len(first)


def _column(name: str, values: npt.ArrayLike) -> Floats:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise InputError(f"{name} of shape {column.shape} were found, expected one column")
    return column
