"""Target attention over a click history (DIN, arXiv 1706.06978, section 4.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ecdctr.nn.clicks import Clicks
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
        clicks = Clicks(mask)
        by_row, by_click = self._of_target(target), self._of_clicks(clicks.pairs(target, past))
        _, *rest = self.score.layers
        if not rest:
            return clicks.pool(by_click + by_row.index_select(0, clicks.rows()), past)
        # The first of the others is the activation.
        score = clicks.add_rows_relu(by_click, by_row)
        for layer in rest[1:]:
            score = layer(score)
        return clicks.pool(score, past)

    def _score_all(self, target: Tensor, past: Tensor) -> Tensor:
        """The scores `(B, T, 1)` of all places."""
        score = self._of_target(target).unsqueeze(1) + self._of_clicks(
            torch.cat([past, target.unsqueeze(1) * past], -1)
        )
        _, *rest = self.score.layers
        for layer in rest:
            score = layer(score)
        return score

    # The first layer is linear, so the part of the target is computed once per row, that of the difference folds into the
    # other two, and padding costs nothing: with half the places padded, half the time of scoring all.

    def _of_target(self, target: Tensor) -> Tensor:
        """What the first layer makes of each row's target, `(B, H)`."""
        first, (on_target, _, on_difference, _) = self._first()
        return linear(target, on_target + on_difference, first.bias)

    def _of_clicks(self, pairs: Tensor) -> Tensor:
        """What it makes of clicks beside their products with the target, `(…, 2 D)`: `(…, H)`."""
        _, (_, on_past, on_difference, on_product) = self._first()
        return linear(pairs, torch.cat([on_past - on_difference, on_product], 1))

    def _first(self) -> tuple[nn.Linear, tuple[Tensor, ...]]:
        """The first layer, and its columns by what they are multiplied with: target, past, difference, product."""
        first = self.score.layers[0]
        assert isinstance(first, nn.Linear)
        return first, first.weight.chunk(4, 1)
