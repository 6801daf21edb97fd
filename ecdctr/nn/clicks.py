"""The clicks of a batch of histories, and what target attention does with them beside its matrix products.

On the CPU in compiled passes (`clicks.cpp`), where they were built; else, and in graphs that torch compiles or exports, in torch's own
operations.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ecdctr.native import library

_LIBRARY = library(__file__, "_clicks")
_OPERATIONS = {
    "pair_clicks": "mmmnnnm", "pair_clicks_back": "mmmmnnnmm", "add_rows_relu": "mmmnnn", "add_rows_relu_back": "mmmnnnmm",
    "pool_clicks": "mmmnnnm", "pool_clicks_back": "mmmmnnnmm",
}  # fmt: skip
for _name, _arguments in _OPERATIONS.items():
    if _LIBRARY is not None:
        _operation = getattr(_LIBRARY, _name)
        _operation.argtypes = [ctypes.c_void_p if kind == "m" else ctypes.c_int64 for kind in _arguments]
        _operation.restype = None


def rounded(count: int) -> int:
    """A number a little above, of few: 32 of them lie between a power of two and the next."""
    part = 1 << max(count.bit_length() - 6, 0)
    return -(-count // part) * part


class Clicks:
    """Where the clicks of some histories are.

    Args:
        mask: `(B, T)`, true where there is a click.

    Attributes:
        places: `(N,)`, b T + t of every click, ascending.
        length: T.
        count: N.
        padded: Rows of what is computed for each click. Clicks differ in number from batch to batch, and matrix libraries
            keep a kernel for every number that they have seen: so a few rows more, which mean nothing.
    """

    def __init__(self, mask: Tensor) -> None:
        self.shape = mask.shape
        self.length = mask.shape[1]
        self.places = mask.reshape(-1).nonzero().squeeze(1)
        self.count = len(self.places)
        self.padded = rounded(self.count)

    def pairs(self, target: Tensor, past: Tensor) -> Tensor:
        """Every click beside its product with its row's target, `(padded, 2 D)`.

        Args:
            target: `(B, D)`.
            past: `(B, T, D)`.
        """
        if _compiled(target, past):
            pairs: Tensor = _Pairs.apply(target.contiguous(), past.contiguous(), self)
            return pairs
        clicks = past.flatten(0, 1).index_select(0, self._padded_places())
        return torch.cat([clicks, target.index_select(0, self.rows()) * clicks], 1)

    def add_rows_relu(self, values: Tensor, by_row: Tensor) -> Tensor:
        """The positive part of each click's values `(padded, H)` plus those of its row, of `(B, H)`."""
        if _compiled(values, by_row):
            added: Tensor = _AddRowsRelu.apply(values, by_row.contiguous(), self)
            return added
        return torch.relu(values + by_row.index_select(0, self.rows()))

    def pool(self, scores: Tensor, past: Tensor) -> Tensor:
        """The sum over each row's clicks, each times its score `(padded, 1)`: `(B, D)`."""
        if _compiled(scores, past):
            pooled: Tensor = _Pool.apply(scores.contiguous(), past.contiguous(), self)
            return pooled
        weights = scores.new_zeros(self.shape.numel(), 1).index_copy(0, self.places, scores[: self.count])
        return torch.bmm(weights.view(self.shape).unsqueeze(1), past).squeeze(1)

    def _padded_places(self) -> Tensor:
        return F.pad(self.places, (0, self.padded - self.count))

    def rows(self) -> Tensor:
        """The row of each click, `(padded,)`."""
        return self._padded_places() // self.length

    def run(self, operation: str, *given: Tensor, width: int, into: tuple[Tensor, ...] = ()) -> None:
        """Call a compiled pass on these clicks."""
        getattr(_LIBRARY, operation)(
            *(tensor.data_ptr() for tensor in given), self.places.data_ptr(), self.count, self.length, width,
            *(tensor.data_ptr() for tensor in into),
        )  # fmt: skip


def _compiled(*tensors: Tensor) -> bool:
    return (
        _LIBRARY is not None
        and all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors)
        and not torch.compiler.is_compiling()
    )


def _gradients(ctx: Any, operation: str, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the two saved inputs, of which the second is the histories."""
    first, past = ctx.saved_tensors
    into = torch.zeros_like(first), torch.zeros_like(past)
    ctx.clicks.run(operation, gradient.contiguous(), first, past, width=past.shape[2], into=into)
    return into


class _Pairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, target: Tensor, past: Tensor, clicks: Clicks) -> Tensor:
        ctx.save_for_backward(target, past)
        ctx.clicks = clicks
        dim = target.shape[1]
        out = target.new_empty(clicks.padded, 2 * dim)
        clicks.run("pair_clicks", target, past, width=dim, into=(out,))
        out[clicks.count :] = 0.0
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        return *_gradients(ctx, "pair_clicks_back", gradient), None


class _AddRowsRelu(torch.autograd.Function):
    """In place: a linear layer does not need its own output for its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, by_row: Tensor, clicks: Clicks) -> Tensor:
        clicks.run("add_rows_relu", values, by_row, width=values.shape[1])
        values[clicks.count :] = 0.0
        ctx.mark_dirty(values)
        ctx.save_for_backward(values)
        ctx.clicks, ctx.rows = clicks, len(by_row)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (values,) = ctx.saved_tensors
        of_values, of_rows = torch.empty_like(values), values.new_zeros(ctx.rows, values.shape[1])
        ctx.clicks.run(
            "add_rows_relu_back", gradient.contiguous(), values, width=values.shape[1], into=(of_values, of_rows)
        )
        of_values[ctx.clicks.count :] = 0.0
        return of_values, of_rows, None


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, past: Tensor, clicks: Clicks) -> Tensor:
        ctx.save_for_backward(scores, past)
        ctx.clicks = clicks
        out = past.new_zeros(past.shape[0], past.shape[2])
        clicks.run("pool_clicks", scores, past, width=past.shape[2], into=(out,))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        return *_gradients(ctx, "pool_clicks_back", gradient), None
