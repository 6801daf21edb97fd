"""Optimisers of embedding tables that touch only the rows of a batch, and the exchange that feeds them.

A step's cost depends on the rows touched, never on the size of a table. State is kept per row and saved by vocabulary,
so that it grows with the vocabulary: new rows begin as if never touched.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from ecdctr.exceptions import TrainingError
from ecdctr.nn.distinct import distinct
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.nn.kernels import ROWS

HALF = 31
"""Bits of a row number that travel in one signed 32-bit integer."""


class SparseOptimizer(Protocol):
    """What the trainer needs of an optimiser of tables."""

    def step(self, places: Tensor, gradients: Tensor) -> None:
        """Update distinct fused rows `(U,)` by their gradients `(U, D)`; U may be 0."""

    def state_dict(self) -> dict[str, Tensor]:
        """State of each row, in views by vocabulary."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over state; rows that a vocabulary has gained begin as if never touched.

        Raises:
            TrainingError: An unknown name, another shape, or more rows than the vocabulary has.
        """


class RowwiseAdagrad:
    """Adagrad with one accumulator per row: s_r += mean(g_r²); w_r -= lr · g_r / (√s_r + ε).

    Args:
        tables: The tables to update.
        lr: Learning rate.
        eps: ε.
    """

    def __init__(self, tables: EmbeddingTables, lr: float, eps: float = 1e-10) -> None:
        self.tables, self.lr, self.eps = tables, lr, eps
        self.accumulator = torch.zeros(len(tables.weight))

    @torch.no_grad()
    def step(self, places: Tensor, gradients: Tensor) -> None:
        """See `SparseOptimizer.step`."""
        if ROWS is not None:
            ROWS.rowwise_adagrad(
                self.tables.weight, self.accumulator, places, gradients.contiguous(), self.lr, self.eps
            )
            return
        total = self.accumulator.index_select(0, places) + gradients.square().mean(1)
        self.accumulator.index_copy_(0, places, total)
        _add_rows(self.tables.weight, places, gradients * (-self.lr / (total.sqrt() + self.eps)).unsqueeze(1))

    def state_dict(self) -> dict[str, Tensor]:
        """Accumulators `(rows,)` by vocabulary."""
        return self.tables.split(self.accumulator)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `SparseOptimizer.load_state_dict`."""
        _load_rows(self.state_dict(), state)


class LazyAdam:
    """Adam that moves a row only in the steps that touch it, as if those were all the steps there are.

    With t_r the touches of row r: m_r = β₁ m_r + (1 - β₁) g_r; v_r = β₂ v_r + (1 - β₂) g_r²;
    w_r -= lr · (m_r / (1 - β₁^t_r)) / (√(v_r / (1 - β₂^t_r)) + ε). Counting touches by row instead of steps (as
    `torch.optim.SparseAdam` does) lets a row that a growing vocabulary brings late start with the same bias correction as the
    first ones had.

    Args:
        tables: The tables to update.
        lr: Learning rate.
        betas: β₁ and β₂.
        eps: ε.
    """

    def __init__(
        self, tables: EmbeddingTables, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        self.tables, self.lr, self.betas, self.eps = tables, lr, betas, eps
        self.touches = torch.zeros(len(tables.weight))
        self.mean = torch.zeros_like(tables.weight)
        self.square = torch.zeros_like(tables.weight)

    @torch.no_grad()
    def step(self, places: Tensor, gradients: Tensor) -> None:
        """See `SparseOptimizer.step`."""
        first, second = self.betas
        touches = self.touches.index_select(0, places).add_(1.0)
        mean = self.mean.index_select(0, places).lerp_(gradients, 1.0 - first)
        square = self.square.index_select(0, places).mul_(second).addcmul_(gradients, gradients, value=1.0 - second)
        self.touches.index_copy_(0, places, touches)
        self.mean.index_copy_(0, places, mean)
        self.square.index_copy_(0, places, square)
        counts = touches.unsqueeze(1)
        spread = (square / (1.0 - second**counts)).sqrt_().add_(self.eps)
        _add_rows(self.tables.weight, places, mean.div_(spread).mul_(-self.lr / (1.0 - first**counts)))

    def state_dict(self) -> dict[str, Tensor]:
        """`touches.NAME` `(rows,)`, `mean.NAME` and `square.NAME` `(rows, D)` for each vocabulary."""
        parts = {"touches": self.touches, "mean": self.mean, "square": self.square}
        return {
            f"{part}.{name}": rows for part, whole in parts.items() for name, rows in self.tables.split(whole).items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `SparseOptimizer.load_state_dict`."""
        _load_rows(self.state_dict(), state)


def _add_rows(weight: Tensor, places: Tensor, change: Tensor) -> None:
    """Add to distinct rows."""
    # Rows are distinct, so reading and copying back is right, and twice as fast as index_add_ for odd D.
    weight.index_copy_(0, places, change.add_(weight.index_select(0, places)))


def _load_rows(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy first rows by name into the views `own`; rows beyond become zero."""
    for name, values in state.items():
        if name not in own or values.shape[1:] != own[name].shape[1:] or len(values) > len(own[name]):
            expected = f"at most {tuple(own[name].shape)}" if name in own else f"one of {', '.join(own)}"
            raise TrainingError(
                f"optimiser state {name!r} of shape {tuple(values.shape)} does not fit: expected {expected}",
                hint="continue from a version of the same model, or start with a warm start instead",
            )
        own[name][: len(values)] = values
        own[name][len(values) :] = 0


def pack_rows(places: Tensor, gradients: Tensor) -> Tensor:
    """Touched rows and their gradients as one `(U, D + 2)` int32 matrix, for one exchange instead of two.

    The bits of both travel as integers, which no transport rounds.

    Args:
        places: Fused rows `(U,)`; may be none.
        gradients: Their gradients `(U, D)`.
    """
    halves = torch.stack([places >> HALF, places & ((1 << HALF) - 1)], 1).to(torch.int32)
    return torch.cat([gradients.contiguous().view(torch.int32), halves], 1)


def merge_packed(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows, ascending, and the sums of their gradients, added in the order in which they stand.

    Args:
        packed: What `pack_rows` gave on each rank, in the order of ranks: so every rank computes the same bits.
    """
    dim = packed.shape[1] - 2
    high, low = packed[:, dim:].to(torch.int64).unbind(1)
    groups = distinct((high << HALF) | low)
    return groups.rows, groups.merge(packed.view(torch.float32)[:, :dim])
