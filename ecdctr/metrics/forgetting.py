"""What a model that is updated every day still knows of earlier days."""

import numpy as np
import numpy.typing as npt

from ecdctr.exceptions import InputError
from ecdctr.metrics.columns import Floats


def backward_transfer(scores: npt.ArrayLike) -> float | None:
    """How later training changed the score on earlier days: mean over j < T of R[T, j] - R[j, j].

    Negative is forgetting where higher scores are better; give -log loss for log loss
    (Lopez-Paz and Ranzato, "Gradient Episodic Memory", 2017).

    Args:
        scores: R, (T, T): R[i, j] is the score on held-out rows of day j of the model trained up to day i; NaN where
            it was not or could not be computed.

    Returns:
        None where no earlier day can be compared.

    Raises:
        InputError: A matrix that is not square.
    """
    matrix = _square(scores)
    if len(matrix) < 2:
        return None
    return _mean(matrix[-1, :-1] - np.diagonal(matrix)[:-1])


def forgetting_curve(scores: npt.ArrayLike) -> list[float | None]:
    """Mean of R[j + k, j] - R[j, j] by age k = 0 … T - 1: what is left of a day, k updates later.

    Args:
        scores: R, (T, T), as for `backward_transfer`.

    Returns:
        T values, the first 0 (None where even that day has no score).
    """
    matrix = _square(scores)
    base = np.diagonal(matrix)
    return [_mean(np.diagonal(matrix, -age) - base[: len(matrix) - age]) for age in range(len(matrix))]


def _square(scores: npt.ArrayLike) -> Floats:
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"a score matrix of shape {matrix.shape} was found, expected (T, T)")
    return matrix


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
