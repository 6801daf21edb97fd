"""Bilinear fusion of two streams (FinalMLP, arXiv 2304.00902, section 3.3)."""

import torch
from torch import Tensor, nn

from ecdctr.exceptions import ConfigError


class BilinearFusion(nn.Module):
    """b + w_1ᵀ o_1 + w_2ᵀ o_2 + Σ_h o_{1,h}ᵀ W_h o_{2,h}, with both streams cut into as many parts as there are heads.

    Args:
        inputs: Columns of each stream.
        heads: Parts; one is the full bilinear form.

    Raises:
        ConfigError: The columns cannot be shared evenly by the heads.
    """

    def __init__(self, inputs: int, heads: int) -> None:
        super().__init__()
        if inputs % heads:
            raise ConfigError(
                f"{inputs} columns cannot be shared by {heads} fusion heads",
                hint="choose fusion_heads that divide the last of hidden_units",
            )
        self.shape = (heads, inputs // heads)
        self.linear = nn.Linear(2 * inputs, 1)
        self.weight = nn.Parameter(torch.empty(heads, inputs // heads, inputs // heads))
        for head in self.weight:
            nn.init.xavier_uniform_(head)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two `(B, inputs)` → `(B,)`."""
        left, right = (stream.unflatten(1, self.shape) for stream in (first, second))
        products = torch.einsum("bhi,hij,bhj->b", left, self.weight, right)
        sums: Tensor = self.linear(torch.cat([first, second], 1)).squeeze(1)
        return sums + products
