"""The cross network of DCN-v2 (arXiv 2008.13535, equations 1 and 2)."""

from torch import Tensor, nn

from ecdctr.nn.linear import Linear


class CrossNetwork(nn.Module):
    """x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l; with a rank r, W_l = U_l V_lᵀ.

    Args:
        inputs: Columns d.
        layers: How many cross layers; features of order up to layers + 1.
        rank: r of low-rank matrices; None: full matrices.
    """

    def __init__(self, inputs: int, layers: int, rank: int | None = None) -> None:
        super().__init__()
        self.crosses = nn.ModuleList(
            Linear(inputs, inputs)
            if rank is None
            else nn.Sequential(Linear(inputs, rank, bias=False), Linear(rank, inputs))
            for _ in range(layers)
        )

    def chain(self) -> list[nn.Module]:
        """The affine map of each cross layer: all of the layer that has parameters."""
        return list(self.crosses)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, d)` → `(B, d)`."""
        crossed = x
        for cross in self.crosses:
            crossed = x * cross(crossed) + crossed
        return crossed
