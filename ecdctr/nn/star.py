"""Partitioned normalisation and the star topology's layer (STAR, arXiv 2101.11427, sections 3.3 and 3.4)."""

import torch
from torch import Tensor, nn

from ecdctr.nn.linear import linear
from ecdctr.nn.normalization import DistributedBatchNorm


class PartitionedNorm(nn.Module):
    """(γ ⊙ γ_p) (x - μ_p) / √(σ_p² + ε) + (β + β_p), with statistics of the rows of domain p alone.

    Args:
        features: Columns.
        domains: How many domains.
    """

    def __init__(self, features: int, domains: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.domains = nn.ModuleList(DistributedBatchNorm(features) for _ in range(domains))

    def forward(self, x: Tensor, domain: int) -> Tensor:
        """Normalise `(B', features)`, rows of one domain."""
        norm = self.domains[domain]
        assert isinstance(norm, DistributedBatchNorm)
        return norm.normalise(x) * (self.weight * norm.weight) + (self.bias + norm.bias)


class StarLinear(nn.Module):
    """(W ⊙ W_p) x + (b + b_p): a layer that all domains share, bent by one of each domain's own.

    The paper does not say how W_p begins. It begins as ones, and b_p as zeros, so that all domains begin with the shared
    network.

    Args:
        inputs: Columns of the input.
        outputs: Columns of the output.
        domains: How many domains.
    """

    def __init__(self, inputs: int, outputs: int, domains: int) -> None:
        super().__init__()
        self.shared = nn.Linear(inputs, outputs)
        self.domain_weight = nn.Parameter(torch.ones(domains, outputs, inputs))
        self.domain_bias = nn.Parameter(torch.zeros(domains, outputs))

    def forward(self, x: Tensor, domain: int) -> Tensor:
        """`(B', inputs)`, rows of one domain → `(B', outputs)`."""
        return linear(x, self.shared.weight * self.domain_weight[domain], self.shared.bias + self.domain_bias[domain])
