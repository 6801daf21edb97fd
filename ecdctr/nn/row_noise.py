"""Random numbers that belong to a row and a step, whatever rank holds the row and whatever was drawn before."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Keys = NDArray[np.uint64]

NO_KEYS: Keys = np.zeros(0, np.uint64)
"""For what looks at none."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(values: Keys) -> Keys:
    """The finaliser of SplitMix64 (Steele et al. 2014): every bit of the input moves every bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def row_keys(columns: Sequence[Tensor]) -> Keys:
    """One 64-bit key `(B,)` for each row from what stands in it; equal rows have equal keys.

    Args:
        columns: `(B,)` or `(B, C)` of int64 or float32; at least one.
    """
    keys: Keys = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        # The bits of a float, not its value: a key needs no arithmetic.
        bits = column.contiguous().view(torch.int32) if column.dtype == torch.float32 else column
        for values in (bits if bits.dim() > 1 else bits.unsqueeze(1)).cpu().numpy().astype(np.int64).T:
            keys = _mix((keys + _GOLDEN) ^ values.view(np.uint64))
    return keys


def uniform(keys: Keys, columns: int, *, seed: int, step: int) -> NDArray[np.float64]:
    """Numbers in (0, 1), `(B, columns)`: the same for the same key, column, seed and step.

    Args:
        keys: `(B,)`, of `row_keys`.
        columns: Independent numbers for each row.
        seed: Of the run.
        step: Another one gives other numbers.
    """
    stream = _mix(
        _mix(np.array([seed], np.int64).view(np.uint64) + _GOLDEN) ^ np.array([step], np.int64).view(np.uint64)
    )
    places = _mix(np.arange(1, columns + 1, dtype=np.uint64) * _GOLDEN)
    bits = _mix(_mix(keys ^ stream)[:, None] + places[None, :])
    # 53 bits, and half a unit more, so that neither 0 nor 1 is ever drawn.
    numbers: NDArray[np.float64] = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return numbers


def gumbel(keys: Keys, columns: int, *, seed: int, step: int) -> Tensor:
    """Standard Gumbel noise `(B, columns)` float32: -ln(-ln u)."""
    return torch.from_numpy(-np.log(-np.log(uniform(keys, columns, seed=seed, step=step)))).float()
