"""Interests from the clicks of two domains (MiNet, arXiv 2008.02974): attention over clicks, then over kinds of interest."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ecdctr.nn.mlp import MLP
from ecdctr.nn.snapshot_pooling import very_low


class ClickAttention(nn.Module):
    """p = Σ_i softmax_i(hᵀ ReLU(W [r_i, q, u, M r_i ⊙ q])) r_i over the clicks i of a row.

    Args:
        dim: Length of a vector, D.
        hidden_units: Of the scoring network.
        transfer: Whether M is learned, for clicks of another domain than the target's; else it is the identity.
    """

    def __init__(self, dim: int, hidden_units: Sequence[int], *, transfer: bool) -> None:
        super().__init__()
        self.score = MLP(4 * dim, hidden_units)
        self.transfer = nn.Linear(dim, dim, bias=False) if transfer else None
        if self.transfer is not None:
            nn.init.eye_(self.transfer.weight)

    def forward(self, clicks: Tensor, mask: Tensor, target: Tensor, user: Tensor) -> Tensor:
        """Pool a history.

        Args:
            clicks: r, `(B, T, D)`.
            mask: `(B, T)`, true where there is a click.
            target: q, `(B, D)`.
            user: u, `(B, D)`.

        Returns:
            `(B, D)`; zeros for an empty history.
        """
        moved = clicks if self.transfer is None else self.transfer(clicks)
        about = [part.unsqueeze(1).expand_as(clicks) for part in (target, user)]
        scores = self.score(torch.cat([clicks, *about, moved * about[0]], -1)).squeeze(-1)
        weights = scores.masked_fill(~mask, very_low(scores)).softmax(-1) * mask
        return torch.bmm(weights.unsqueeze(1), clicks).squeeze(1)


class InterestGates(nn.Module):
    """v_k = exp(g_kᵀ ReLU(V_k [q, p_1 … p_K]) + b_k): a weight of each interest that is not normalised over them.

    Args:
        inputs: Columns of [q, p_1 … p_K].
        interests: K.
        hidden_units: Of each network.
    """

    LIMIT = 5.0
    """Largest exponent: a wild row must not overflow [ours]."""

    def __init__(self, inputs: int, interests: int, hidden_units: Sequence[int]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(MLP(inputs, hidden_units) for _ in range(interests))

    def forward(self, seen: Tensor) -> Tensor:
        """`(B, inputs)` → `(B, K)`."""
        return torch.cat([network(seen) for network in self.networks], 1).clamp_max(self.LIMIT).exp()
