"""The factorisation machine's second order (Rendle 2010, lemma 3.1)."""

from torch import Tensor


def pairwise_products(fields: Tensor) -> Tensor:
    """Σ_{i<j} ⟨v_i, v_j⟩ of `(B, F, D)`, `(B,)`, in time linear in F."""
    total = fields.sum(1)
    return 0.5 * (total.square().sum(1) - fields.square().sum((1, 2)))
