"""The factorisation machine's second order (Rendle 2010, lemma 3.1)."""

from typing import Any

import torch
from torch import Tensor


def pairwise_products(fields: Tensor) -> Tensor:
    """Σ_{i<j} ⟨v_i, v_j⟩ of `(B, F, D)`, `(B,)`, in time linear in F."""
    products: Tensor = _PairwiseProducts.apply(fields)
    return products


class _PairwiseProducts(torch.autograd.Function):
    """Its gradient in closed form, ∂/∂v_i = Σ_j v_j - v_i: autograd's own keeps and visits every intermediate."""

    @staticmethod
    def forward(ctx: Any, fields: Tensor) -> Tensor:
        total = fields.sum(1)
        ctx.save_for_backward(fields, total)
        return 0.5 * (total.square().sum(1) - fields.square().sum((1, 2)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        fields, total = ctx.saved_tensors
        gradient: Tensor = (total.unsqueeze(1) - fields).mul_(gradients[0].view(-1, 1, 1))
        return gradient
