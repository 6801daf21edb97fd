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

    def every(self, start: int, step: int) -> Tensor:
        """Every `step`-th row from `start` on, `(R, …)`."""
        wanted, count = range(start, len(self), step), len(self.parts)
        found = self.parts[0].new_empty(len(wanted), *self.shape[1:])
        # Of the rows wanted, each `period`-th lies in the same part, `stride` rows of that part further.
        period = count // gcd(count, step)
        stride = step * period // count
        for place, row in enumerate(wanted[:period]):
            target = found[place::period]
            target.copy_(self.parts[row % count][row // count :: stride][: len(target)])
        return found


def every(values: Tensor | StoredRows, start: int, step: int) -> Tensor:
    """Every `step`-th row from `start` on, of values that lie in one piece or in parts."""
    return values.every(start, step) if isinstance(values, StoredRows) else values[start::step]
