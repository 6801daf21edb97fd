"""Numbers as field vectors (AutoInt, arXiv 1810.11921, equation 4)."""

import torch
from torch import Tensor, nn

from ecdctr.nn.embedding import INIT_STD


class NumberFields(nn.Module):
    """e_m = x_m v_m: each number times a learned vector of its own.

    Args:
        numbers: How many numbers N.
        dim: Length of a vector, D.
    """

    def __init__(self, numbers: int, dim: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(numbers, dim) * INIT_STD)

    def forward(self, numbers: Tensor) -> Tensor:
        """`(B, N)` → `(B, N, D)`."""
        return numbers.unsqueeze(-1) * self.vectors
