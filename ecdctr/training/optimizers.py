"""Optimisers of embedding tables that touch only the rows of a batch; definitions and sources: docs/models.md."""

from typing import Any

import torch
from torch import Tensor

from ecdctr.config.training import OptimizerConfig
from ecdctr.nn.distinct import take_rows
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.nn.kernels import ROWS
from ecdctr.training.sparse_optimizer import SparseOptimizer


class RowwiseAdagrad(SparseOptimizer):
    """Adagrad with one accumulator per row: s_r += mean(g_r²); w_r -= lr · g_r / (√s_r + ε).

    Args:
        tables: The tables to update.
        lr: Learning rate.
        eps: ε.
        common: As `SparseOptimizer` takes it.
    """

    name = "adagrad"

    def __init__(self, tables: EmbeddingTables, lr: float, eps: float = 1e-10, **common: Any) -> None:
        super().__init__(tables, lr, **common)
        self.eps = eps
        self.accumulator = self.state["square"]

    @staticmethod
    def parts(dim: int) -> dict[str, tuple[int, ...]]:
        """See `SparseOptimizer.parts`."""
        return {"square": ()}

    def _update(self, places: Tensor, gradients: Tensor) -> None:
        if ROWS is not None and places.is_cpu:
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
        common: As `SparseOptimizer` takes it.
    """

    name = "lazy_adam"

    def __init__(
        self,
        tables: EmbeddingTables,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        **common: Any,
    ) -> None:
        super().__init__(tables, lr, **common)
        self.betas, self.eps = betas, eps
        self.touches, self.mean, self.square = self.state.values()

    @staticmethod
    def parts(dim: int) -> dict[str, tuple[int, ...]]:
        """See `SparseOptimizer.parts`."""
        return {"touches": (), "mean": (dim,), "square": (dim,)}

    def _update(self, places: Tensor, gradients: Tensor) -> None:
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


class Ftrl(SparseOptimizer):
    """FTRL-Proximal (McMahan et al., KDD 2013), coordinate by coordinate, beginning at a row's initial values.

    n' = n + g²; a = β + √n' + lr · λ₂; v = w - (lr / a) · (g - λ₁ · sign(w)), from w = 0 instead -(lr / a) · (z + g);
    w = sign(v) · max(|v| - lr · λ₁ / a, 0). z is kept for coordinates at 0 alone, where it is the paper's; from any other w the
    paper's z follows, with the rate of now. So a schedule or a bound on norms may do with rate and row as they please: a
    row without gradient stays where it is. With one rate this is the paper's closed form but for its beginning: there z
    begins at 0, which moves an embedding to the origin at its first touch. Without penalties it is Adagrad with one
    accumulator per coordinate and ε = β.

    Args:
        tables: The tables to update.
        lr: α.
        beta: β.
        l1: λ₁, of λ₁ ‖w_r‖₁.
        l2: λ₂, of ½ λ₂ ‖w_r‖²; in a above instead of the gradient.
        common: As `SparseOptimizer` takes it.
    """

    name = "ftrl"

    def __init__(
        self,
        tables: EmbeddingTables,
        lr: float,
        beta: float = 1e-4,
        l1: float = 0.0,
        l2: float = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(tables, lr, l2=l2, **common)
        self.beta, self.l1 = beta, l1
        self.z, self.squares = self.state.values()

    @staticmethod
    def parts(dim: int) -> dict[str, tuple[int, ...]]:
        """See `SparseOptimizer.parts`."""
        return {"z": (dim,), "squares": (dim,)}

    def _penalised(self, places: Tensor, gradients: Tensor) -> Tensor:
        return gradients

    def _update(self, places: Tensor, gradients: Tensor) -> None:
        weight = take_rows(self.tables.weight, places)
        pull = gradients + torch.where(weight == 0, self.z.index_select(0, places), weight.sign() * -self.l1)
        squares = self.squares.index_select(0, places).addcmul_(gradients, gradients)
        self.squares.index_copy_(0, places, squares)
        spread = squares.sqrt_().add_(self.beta + self.lr * self.l2)
        free = weight - pull * self.lr / spread
        moved = free.sign() * (free.abs() - self.lr * self.l1 / spread).clamp_(min=0)
        # At a rate of 0 nothing comes to lie at 0, so that no quotient is kept.
        z = pull - weight * spread / max(self.lr, 1e-30)
        self.z.index_copy_(0, places, z.where(moved == 0, 0.0))
        self.tables.weight.index_copy_(0, places, moved)

    def touched(self) -> dict[str, Tensor]:
        """See `SparseOptimizer.touched`: rows with a gradient so far."""
        return {name: (rows > 0).any(1) for name, rows in self.tables.split(self.squares).items()}


OPTIMIZERS: dict[str, type[SparseOptimizer]] = {
    "rowwise_adagrad": RowwiseAdagrad,
    "lazy_adam": LazyAdam,
    "ftrl": Ftrl,
}


def sparse_optimizer(tables: EmbeddingTables, settings: OptimizerConfig) -> SparseOptimizer:
    """The optimiser of tables that the settings name."""
    further: dict[str, Any] = {"l2": settings.sparse_l2, "max_norm": settings.max_norm}
    further |= {name: value for name in ("beta", "l1") if (value := getattr(settings, f"ftrl_{name}")) is not None}
    return OPTIMIZERS[settings.sparse_optimizer](tables, settings.sparse_learning_rate, **further)


def _add_rows(weight: Tensor, places: Tensor, change: Tensor) -> None:
    """Add to distinct rows."""
    # Rows are distinct, so reading and copying back is right, and twice as fast as index_add_ for odd D.
    weight.index_copy_(0, places, change.add_(weight.index_select(0, places)))
