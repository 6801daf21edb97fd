"""Rows of a table that were written by several ranks, read back by any number of them."""

from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor


class StoredRows:
    """A table in n parts, of which part p has the rows p, p + n, p + 2 n and so on.

    Args:
        parts: `(R_p, …)` each, in the order of the ranks that wrote them; they may be mapped from files, and are read no
            further than what is asked for.

    Raises:
        ValueError: Parts that do not make one table.
    """

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self.parts = list(parts)
        total, count = sum(len(part) for part in parts), len(parts)
        if [len(part) for part in parts] != [len(range(place, total, count)) for place in range(count)]:
            raise ValueError(f"parts of {[len(part) for part in parts]} rows are no table dealt row by row")
        self.shape = torch.Size([total, *parts[0].shape[1:]])
        self.ndim = parts[0].ndim

    def __len__(self) -> int:
        return self.shape[0]

    def fill(self, target: Tensor, start: int, step: int) -> int:
        """Write every `step`-th row from `start` on into the first rows of `target`; returns how many they are."""
        wanted, count = range(start, len(self), step), len(self.parts)
        # Of the rows wanted, each `period`-th lies in the same part, `stride` rows of that part further.
        period = count // gcd(count, step)
        stride = step * period // count
        for place, row in enumerate(wanted[:period]):
            own = target[place : len(wanted) : period]
            own.copy_(self.parts[row % count][row // count :: stride][: len(own)])
        return len(wanted)


def fill_every(target: Tensor, values: Tensor | StoredRows, start: int, step: int) -> int:
    """`StoredRows.fill` from values that lie in one piece or in parts; no table is ever in memory twice."""
    if isinstance(values, StoredRows):
        return values.fill(target, start, step)
    own = values[start::step]
    target[: len(own)] = own
    return len(own)
