"""Target attention over a click history (DIN, arXiv 1706.06978, section 4.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecdctr.nn.linear import linear
from ecdctr.nn.mlp import MLP


def rounded(count: int) -> int:
    """A number a little above, of few: 32 of them lie between a power of two and the next."""
    part = 1 << max(count.bit_length() - 6, 0)
    return -(-count // part) * part


class TargetAttention(nn.Module):
    """Sum of the history's vectors, each weighted by a small network on (target, past, difference, product).

    As in the paper, weights are not normalised, so that a strong interest gives a long vector.

    Args:
        dim: Length of a vector, D.
        hidden_units: Of the scoring network.
    """

    def __init__(self, dim: int, hidden_units: Sequence[int]) -> None:
        super().__init__()
        self.score = MLP(4 * dim, hidden_units)

    def forward(self, target: Tensor, past: Tensor, mask: Tensor) -> Tensor:
        """Pool a history.

        Args:
            target: `(B, D)`.
            past: `(B, T, D)`.
            mask: `(B, T)`, true where there is a click.

        Returns:
            `(B, D)`; zeros for an empty history.
        """
        clicks = mask.reshape(-1).nonzero().squeeze(1)
        count = len(clicks)
        # Clicks differ in number from batch to batch, and matrix libraries keep a kernel for every number that they have seen.
        padded = F.pad(clicks, (0, rounded(count) - count)) if mask.numel() else clicks
        rows = padded // mask.shape[1]
        score = self._score(target, past.flatten(0, 1).index_select(0, padded), rows)[:count]
        weights = score.new_zeros(mask.numel(), 1).index_copy(0, clicks, score)
        return torch.bmm(weights.view(mask.shape).unsqueeze(1), past).squeeze(1)

    def _score(self, target: Tensor, clicks: Tensor, rows: Tensor) -> Tensor:
        """The scoring network on (target, past, difference, product), `(N, 1)` for N real clicks.

        Its first layer is linear, so the part of the target is computed once per row, that of the difference folds into
        the other two, and padding costs nothing: with half the places padded, half the time of scoring all.
        """
        first, *rest = self.score.layers
        assert isinstance(first, nn.Linear)
        on_target, on_past, on_difference, on_product = first.weight.chunk(4, 1)
        by_row = linear(target, on_target + on_difference, first.bias)
        by_click = linear(
            torch.cat([clicks, target.index_select(0, rows) * clicks], 1),
            torch.cat([on_past - on_difference, on_product], 1),
        )
        score = by_row.index_select(0, rows) + by_click
        for layer in rest:
            score = layer(score)
        return score
