"""A click history as one vector without a target: the mean of its clicks."""

from torch import Tensor


def mean_of_clicks(past: Tensor, mask: Tensor) -> Tensor:
    """Mean over the places that hold a click.

    Args:
        past: `(B, T, D)`.
        mask: `(B, T)`, true where there is a click.

    Returns:
        `(B, D)`; zeros for an empty history.
    """
    weights = mask.unsqueeze(-1).to(past.dtype)
    return (past * weights).sum(1) / weights.sum(1).clamp_min(1.0)
