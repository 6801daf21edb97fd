"""A gate that scales one field's vector by what the vector itself says."""

import torch
from torch import Tensor, nn


class FieldGate(nn.Module):
    """v → 2 σ(w·v + b) v; w and b begin as zeros, so that the vector is taken as it is until something else is learned.

    Args:
        dim: Length of the vector, D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, vector: Tensor) -> Tensor:
        """`(B, D)` → `(B, D)`."""
        return 2.0 * torch.sigmoid(self.score(vector)) * vector
