"""Optimisers of embedding tables that touch only the rows of a batch.

A step's cost depends on the rows touched, never on the size of a table. State is kept per row and saved by vocabulary,
so that it grows with the vocabulary: new rows begin as if never touched.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from ecdctr.exceptions import TrainingError
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.nn.kernels import ROWS
from ecdctr.nn.stored_rows import StoredRows


class SparseOptimizer(ABC):
    """Updates rows of tables, and keeps state for each row that this rank holds.

    Args:
        tables: The tables to update.
        lr: Learning rate.
    """

    name: ClassVar[str]
    """What its state is called in files."""

    def __init__(self, tables: EmbeddingTables, lr: float) -> None:
        self.tables, self.lr = tables, lr
        self.state = {part: tables.new_rows(*shape) for part, shape in self.parts(tables.dim).items()}

    @staticmethod
    @abstractmethod
    def parts(dim: int) -> dict[str, tuple[int, ...]]:
        """Names of the state's parts, and the shape of each for one row of length D."""

    @classmethod
    def floats(cls, dim: int) -> int:
        """Numbers of state for one row of length D."""
        return sum(prod(shape) for shape in cls.parts(dim).values())

    @abstractmethod
    def step(self, places: Tensor, gradients: Tensor) -> None:
        """Update distinct rows of this rank's matrix `(U,)` by their gradients `(U, D)`; U may be 0."""

    @abstractmethod
    def touched(self) -> dict[str, Tensor]:
        """By vocabulary, which of the rows held here have ever been updated, `(R,)` bool."""

    def state_dict(self) -> dict[str, Tensor]:
        """State of the rows held here, `(R, …)`, in views named `part.vocabulary`."""
        return {
            f"{part}.{name}": rows
            for part, whole in self.state.items()
            for name, rows in self.tables.split(whole).items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor | StoredRows]) -> None:
        """Take over state of all rows; rows that a vocabulary has gained begin as if never touched.

        Raises:
            TrainingError: An unknown name, another shape, or more rows than the vocabulary has.
        """
        own = self.state_dict()
        for key, values in state.items():
            name = key.partition(".")[2]
            rows = self.tables.rows.get(name, 0)
            if key not in own or values.shape[1:] != own[key].shape[1:] or len(values) > rows:
                expected = f"at most {(rows, *own[key].shape[1:])}" if key in own else f"one of {', '.join(own)}"
                raise TrainingError(
                    f"optimiser state {key!r} of shape {tuple(values.shape)} does not fit: expected {expected}",
                    hint="continue from a version of the same model and sparse_optimizer, or start with a warm start instead",
                )
            part = self.tables.layout.part_of(name, values)
            own[key][: len(part)] = part
            own[key][len(part) :] = 0


class RowwiseAdagrad(SparseOptimizer):
    """Adagrad with one accumulator per row: s_r += mean(g_r²); w_r -= lr · g_r / (√s_r + ε).

    Args:
        tables: The tables to update.
        lr: Learning rate.
        eps: ε.
    """

    name = "adagrad"

    def __init__(self, tables: EmbeddingTables, lr: float, eps: float = 1e-10) -> None:
        super().__init__(tables, lr)
        self.eps = eps
        self.accumulator = self.state["square"]

    @staticmethod
    def parts(dim: int) -> dict[str, tuple[int, ...]]:
        """See `SparseOptimizer.parts`."""
        return {"square": ()}

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

    def touched(self) -> dict[str, Tensor]:
        """See `SparseOptimizer.touched`: rows with a non-zero accumulator."""
        return {name: rows > 0 for name, rows in self.tables.split(self.accumulator).items()}


class LazyAdam(SparseOptimizer):
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

    name = "lazy_adam"

    def __init__(
        self, tables: EmbeddingTables, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(tables, lr)
        self.betas, self.eps = betas, eps
        self.touches, self.mean, self.square = self.state.values()

    @staticmethod
    def parts(dim: int) -> dict[str, tuple[int, ...]]:
        """See `SparseOptimizer.parts`."""
        return {"touches": (), "mean": (dim,), "square": (dim,)}

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

    def touched(self) -> dict[str, Tensor]:
        """See `SparseOptimizer.touched`: rows with touches."""
        return {name: rows > 0 for name, rows in self.tables.split(self.touches).items()}


def _add_rows(weight: Tensor, places: Tensor, change: Tensor) -> None:
    """Add to distinct rows."""
    # Rows are distinct, so reading and copying back is right, and twice as fast as index_add_ for odd D.
    weight.index_copy_(0, places, change.add_(weight.index_select(0, places)))
