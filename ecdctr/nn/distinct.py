"""The distinct rows among many looked-up ones, and sums of gradients by row."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ecdctr.nn.kernels import ROWS


@dataclass(frozen=True)
class Distinct:
    """N places grouped by the U distinct rows among them.

    Attributes:
        rows: `(U,)` int64, ascending.
        inverse: `(N,)`, where in `rows` each place is.
        order: `(N,)`, the places sorted by row, equal ones in their own order.
        starts: `(U,)`, where in `order` each row's places begin.
    """

    rows: Tensor
    inverse: Tensor
    order: Tensor
    starts: Tensor

    def expand(self, vectors: Tensor) -> Tensor:
        """Vectors `(U, D)` of the distinct rows → `(N, D)` of all places; its gradient is `merge`."""
        expanded: Tensor = _Expand.apply(vectors, self)
        return expanded

    def merge(self, values: Tensor) -> Tensor:
        """Sums `(U, D)` by row of `(N, D)`, added in the order of places: the same bits every time."""
        if ROWS is not None and values.is_cpu:
            return ROWS.merge(values, self.order, self.starts)
        # Four times as fast as index_add_, which cannot know that its places are grouped.
        return F.embedding_bag(self.order, values, self.starts, mode="sum")


def distinct(places: Tensor) -> Distinct:
    """Group places by row.

    Args:
        places: `(N,)` int64, from 0; N may be 0.
    """
    if not places.is_cpu:
        return distinct_by_sorting(places)
    if ROWS is not None:
        return Distinct(*ROWS.group(places.contiguous()))
    keys = places.numpy()
    count = len(keys)
    bits = count.bit_length()
    # Row and position in one integer: sorting values is vectorised, and twice as fast as torch.unique with its inverse.
    packed = (keys << bits) | np.arange(count)
    packed.sort()
    sorted_rows = packed >> bits
    order = packed & ((1 << bits) - 1)
    first = np.empty(count, dtype=bool)
    first[:1] = True
    np.not_equal(sorted_rows[1:], sorted_rows[:-1], out=first[1:])
    inverse = np.empty(count, dtype=np.int64)
    inverse[order] = np.cumsum(first) - 1
    found = (sorted_rows[first], inverse, order, np.flatnonzero(first))
    return Distinct(*(torch.from_numpy(array) for array in found))


def distinct_by_sorting(places: Tensor) -> Distinct:
    """`distinct` in torch's own operations, for any device."""
    ascending, order = torch.sort(places, stable=True)
    rows, groups, counts = torch.unique_consecutive(ascending, return_inverse=True, return_counts=True)
    inverse = torch.empty_like(order).index_copy_(0, order, groups)
    return Distinct(rows, inverse, order, counts.cumsum(0) - counts)


class _Expand(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, groups: Distinct) -> Tensor:
        ctx.groups = groups
        return take_rows(vectors, groups.inverse)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0]
        return ctx.groups.merge(gradient if gradient.stride(1) == 1 else gradient.contiguous()), None


def take_rows(table: Tensor, places: Tensor) -> Tensor:
    """Rows `(N, D)` of a table at places `(N,)`, outside autograd."""
    if ROWS is not None and table.is_cpu and table.is_contiguous():
        return ROWS.gather(table, places)
    return table.index_select(0, places)
