"""Target attention over a click history (DIN, arXiv 1706.06978, section 4.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ecdctr.nn.mlp import MLP


class TargetAttention(nn.Module):
    """Sum of the history's vectors, each weighted by a small network on (target, past, difference, product).

    As in the paper, weights are not normalised, so that a strong interest gives a long vector.

    Args:
        dim: Length of a vector, D.
        hidden_units: Of the scoring network.
    """

    def __init__(self, dim: int, hidden_units: Sequence[int]) -> None:
        super().__init__()
        self.score = MLP(4 * dim, hidden_units)

    def forward(self, target: Tensor, past: Tensor, mask: Tensor) -> Tensor:
        """Pool a history.

        Args:
            target: `(B, D)`.
            past: `(B, T, D)`.
            mask: `(B, T)`, true where there is a click.

        Returns:
            `(B, D)`; zeros for an empty history.
        """
        query = target.unsqueeze(1).expand_as(past)
        weights: Tensor = self.score(torch.cat([query, past, query - past, query * past], -1)) * mask.unsqueeze(-1)
        return (weights * past).sum(1)
