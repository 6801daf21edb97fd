"""The interacting layer of AutoInt (arXiv 1810.11921, equations 5 to 8)."""

import torch
from torch import Tensor, nn

from ecdctr.nn.linear import Linear


class InteractingLayer(nn.Module):
    """Multi-head self-attention across fields: ReLU(concat over heads of Σ_k α_{mk} W_V e_k + W_Res e_m).

    α_{mk} = softmax over k of ⟨W_Q e_m, W_K e_k⟩, not divided by the root of the dimension, as in the paper.

    Args:
        inputs: Length of a field's vector.
        heads: Attention heads H.
        dim: Length of one head's vector d'.
    """

    def __init__(self, inputs: int, heads: int, dim: int) -> None:
        super().__init__()
        self.shape = (heads, dim)
        self.width = heads * dim
        self.query, self.key, self.value, self.residual = (Linear(inputs, self.width, bias=False) for _ in range(4))

    def forward(self, fields: Tensor) -> Tensor:
        """`(B, F, inputs)` → `(B, F, H·d')`."""
        query, key, value = (
            layer(fields).unflatten(2, self.shape).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        weights = (query @ key.transpose(2, 3)).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        return torch.relu(mixed + self.residual(fields))
