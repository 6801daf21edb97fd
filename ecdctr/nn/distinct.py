"""The distinct rows among many looked-up ones, and sums of gradients by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
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

    def expand(self, vectors: Tensor, counts: Sequence[int], widths: Sequence[int]) -> list[tuple[Tensor, ...]]:
        """Vectors of all places from those of the distinct rows; its gradient is `merge`.

        Args:
            vectors: `(U, D)`.
            counts: How many places belong together; they sum to N.
            widths: How many columns belong together; they sum to D.

        Returns:
            For each count, a tensor `(count, width)` of its own for each width.
        """
        parts: tuple[Tensor, ...] = _Expand.apply(vectors, self, tuple(counts), tuple(widths))
        return [parts[at * len(widths) : (at + 1) * len(widths)] for at in range(len(counts))]

    def merge(self, values: Tensor) -> Tensor:
        """Sums `(U, D)` by row of `(N, D)`, added in the order of places: the same bits every time."""
        out = values.new_empty(len(self.rows), values.shape[1])
        self.merge_into(out, [values], [len(values)])
        return out

    def merge_into(self, out: Tensor, values: Sequence[Tensor | None], counts: Sequence[int]) -> None:
        """`merge` for values that stand in several matrices `(count, W)`; None: zeros."""
        if ROWS is not None and out.is_cpu:
            near = [part if part is None or part.stride(1) == 1 else part.contiguous() for part in values]
            ROWS.merge(near, counts, self.order, self.starts, out)
            return
        zeros = [out.new_zeros(count, out.shape[1]) for count in counts]
        whole = torch.cat([zero if part is None else part for part, zero in zip(values, zeros, strict=True)])
        # Four times as fast as index_add_, which cannot know that its places are grouped.
        out.copy_(F.embedding_bag(self.order, whole, self.starts, mode="sum"))


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
    """Parts that are tensors of their own: splitting one would copy each, and join their gradients again."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, groups: Distinct, counts: tuple[int, ...], widths: tuple[int, ...]
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.groups, ctx.counts, ctx.widths = groups, counts, widths
        ctx.shape = vectors.shape
        firsts = list(accumulate(widths, initial=0))
        return tuple(
            take_rows(vectors, places, first, width)
            for places in groups.inverse.split(list(counts))
            for first, width in zip(firsts, widths, strict=False)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        given = next((gradient for gradient in gradients if gradient is not None), None)
        if given is None:
            return None, None, None, None
        out = given.new_empty(ctx.shape)
        columns = out.split(list(ctx.widths), 1)
        for at, block in enumerate(columns):
            # Without first-order weights there is a block of no columns.
            if block.shape[1]:
                ctx.groups.merge_into(block, gradients[at :: len(columns)], ctx.counts)
        return out, None, None, None


def take_rows(
    table: Tensor, places: Tensor, first: int = 0, width: int | None = None, out: Tensor | None = None
) -> Tensor:
    """Rows `(N, D)` of a table at places `(N,)`, or `width` columns of them from `first` on, outside autograd.

    Where they are wanted in some contiguous memory, `out` is that.
    """
    if ROWS is not None and table.is_cpu and table.is_contiguous():
        return ROWS.gather(table, places, first, width, out)
    return torch.index_select(table[:, first : None if width is None else first + width], 0, places, out=out)


def put_rows(out: Tensor, places: Tensor, rows: Tensor) -> None:
    """Write rows `(N, D)` to distinct places `(N,)` of a matrix, outside autograd."""
    if ROWS is not None and out.is_cpu and out.is_contiguous() and rows.is_contiguous():
        ROWS.put(out, places, rows)
    else:
        out.index_copy_(0, places, rows)
