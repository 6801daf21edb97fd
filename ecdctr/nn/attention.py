"""Target attention over a click history (DIN, arXiv 1706.06978, section 4.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ecdctr.nn.linear import linear
from ecdctr.nn.mlp import MLP


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
        if torch.compiler.is_exporting():
            # How many places hold a click is not known to a graph: it scores all of them.
            weights = self._score_all(target, past) * mask.unsqueeze(-1)
            return torch.bmm(weights.transpose(1, 2), past).squeeze(1)
        clicks = mask.reshape(-1).nonzero().squeeze(1)
        rows = clicks // mask.shape[1]
        score = self._score(target, past.flatten(0, 1).index_select(0, clicks), rows)
        weights = score.new_zeros(mask.numel(), 1).index_copy(0, clicks, score)
        return torch.bmm(weights.view(mask.shape).unsqueeze(1), past).squeeze(1)

    def _score(self, target: Tensor, clicks: Tensor, rows: Tensor) -> Tensor:
        """The scoring network on (target, past, difference, product), `(N, 1)` for N real clicks.

        Its first layer is linear, so the part of the target is computed once per row, that of the difference folds into
        the other two, and padding costs nothing: with half the places padded, half the time of scoring all.
        """
        by_row = self._of_target(target).index_select(0, rows)
        by_click = self._of_clicks(clicks, target.index_select(0, rows) * clicks)
        return self._rest(by_row + by_click)

    def _score_all(self, target: Tensor, past: Tensor) -> Tensor:
        """The scores `(B, T, 1)` of all places."""
        by_row = self._of_target(target).unsqueeze(1)
        return self._rest(by_row + self._of_clicks(past, target.unsqueeze(1) * past))

    def _of_target(self, target: Tensor) -> Tensor:
        first, (on_target, _, on_difference, _) = self._first()
        return linear(target, on_target + on_difference, first.bias)

    def _of_clicks(self, clicks: Tensor, products: Tensor) -> Tensor:
        _, (_, on_past, on_difference, on_product) = self._first()
        return linear(torch.cat([clicks, products], -1), torch.cat([on_past - on_difference, on_product], 1))

    def _first(self) -> tuple[nn.Linear, tuple[Tensor, ...]]:
        """The first layer, and its columns by what they are multiplied with."""
        first = self.score.layers[0]
        assert isinstance(first, nn.Linear)
        return first, first.weight.chunk(4, 1)

    def _rest(self, score: Tensor) -> Tensor:
        _, *rest = self.score.layers
        for layer in rest:
            score = layer(score)
        return score
