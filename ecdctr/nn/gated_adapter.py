"""A gated linear unit that lets a network take from another one's hidden layer what it can use."""

import torch
from torch import Tensor, nn

from ecdctr.nn.linear import Linear


class GatedAdapter(nn.Module):
    """(W h + b) ⊙ σ(V h + c); W and b begin as zeros, so that nothing is taken before it is found useful.

    Args:
        width: Columns of the hidden layer.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = Linear(width, width)
        self.gate = Linear(width, width)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """`(B, width)` → `(B, width)`."""
        taken: Tensor = self.value(hidden) * torch.sigmoid(self.gate(hidden))
        return taken
