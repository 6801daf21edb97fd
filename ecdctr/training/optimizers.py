"""Optimisers of embedding tables that touch only the rows of a batch."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ecdctr.distributed.collective import Collective
from ecdctr.nn.embedding import EmbeddingTables


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
        """Update distinct fused rows `(U,)` by their gradients `(U, D)`."""
        total = self.accumulator[places] + gradients.square().mean(1)
        self.accumulator[places] = total
        self.tables.weight.index_add_(0, places, gradients * (-self.lr / (total.sqrt() + self.eps)).unsqueeze(1))

    def state_dict(self) -> dict[str, Tensor]:
        """Accumulators by vocabulary, `(rows,)`."""
        offsets, rows = self.tables.offsets, self.tables.rows
        return {name: self.accumulator[offsets[name] : offsets[name] + rows[name]] for name in rows}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over accumulators; rows that the vocabulary has gained begin at zero."""
        own = self.state_dict()
        for name, values in state.items():
            own[name][: len(values)] = values


def merge_touched(collective: Collective, places: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the touched rows of all ranks: only they travel, never a table.

    Args:
        collective: The ranks.
        places: Distinct fused rows of this rank's batch `(U,)`; may be none.
        gradients: Their gradients `(U, D)`.

    Returns:
        Distinct rows of the global batch, ascending, and their summed gradients; the same bits on every rank, since ranks
        are added in their order.
    """
    if collective.size == 1:
        return places, gradients
    everywhere = collective.all_gather(places)
    values = collective.all_gather(gradients.contiguous())
    unique, inverse = torch.unique(everywhere, return_inverse=True)
    return unique, torch.zeros(len(unique), gradients.shape[1]).index_add_(0, inverse, values)
