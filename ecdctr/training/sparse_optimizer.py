"""What every optimiser of embedding tables is: it touches the rows of a batch, and keeps state by row.

A step's cost depends on the rows touched, never on the size of a table. State is saved by vocabulary, so that it grows with
the vocabulary: new rows begin as if never touched.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from ecdctr.exceptions import TrainingError
from ecdctr.nn.distinct import take_rows
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.nn.stored_rows import StoredRows


class SparseOptimizer(ABC):
    """Updates rows of tables, and keeps state for each row that this rank holds.

    Args:
        tables: The tables to update.
        lr: Learning rate.
        l2: λ: of ½ λ ‖w_r‖², added to the loss for each row that a step touches, once.
        max_norm: Largest ‖w_r‖ after a step that touches the row; None: any.
    """

    name: ClassVar[str]
    """What its state is called in files."""

    def __init__(self, tables: EmbeddingTables, lr: float, *, l2: float = 0.0, max_norm: float | None = None) -> None:
        self.tables, self.lr, self.l2, self.max_norm = tables, lr, l2, max_norm
        self.state = {part: tables.new_rows(*shape) for part, shape in self.parts(tables.dim).items()}

    @staticmethod
    @abstractmethod
    def parts(dim: int) -> dict[str, tuple[int, ...]]:
        """Names of the state's parts, and the shape of each for one row of length D."""

    @classmethod
    def floats(cls, dim: int) -> int:
        """Numbers of state for one row of length D."""
        return sum(prod(shape) for shape in cls.parts(dim).values())

    @torch.no_grad()
    def step(self, places: Tensor, gradients: Tensor) -> None:
        """Update distinct rows of this rank's matrix `(U,)` by their gradients `(U, D)`; U may be 0."""
        weight = self.tables.weight
        self._update(places, self._penalised(places, gradients))
        if self.max_norm is not None:
            rows = take_rows(weight, places)
            norms = rows.norm(dim=1, keepdim=True)
            weight.index_copy_(0, places, rows.mul_((self.max_norm / norms.clamp_(min=1e-30)).clamp_(max=1.0)))

    def _penalised(self, places: Tensor, gradients: Tensor) -> Tensor:
        """Gradients of the loss with the penalty on the rows."""
        return gradients if self.l2 == 0 else gradients + self.l2 * take_rows(self.tables.weight, places)

    @abstractmethod
    def _update(self, places: Tensor, gradients: Tensor) -> None:
        """What `step` does between the penalty and the bound on norms."""

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
            own[key][self.tables.layout.fill(name, own[key], values) :] = 0
