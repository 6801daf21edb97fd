"""Several snapshots of one id's historical embedding → one vector (arXiv 2408.16238)."""

from typing import Literal

import torch
from torch import Tensor, nn


class SnapshotPooling(nn.Module):
    """Self-attention across snapshots, then the mean over those that exist.

    The snapshots are frozen; the attention is trained in CPM and copied to A-CTR. An id that no snapshot knows gets a
    learned vector (both ours: the paper's figure says neither).

    Args:
        dim: Length of a vector, D.
        mode: `attention`, or `mean` for the mean alone.
    """

    def __init__(self, dim: int, mode: Literal["attention", "mean"] = "attention") -> None:
        super().__init__()
        self.mode = mode
        self.unknown = nn.Parameter(torch.zeros(dim))
        if mode == "attention":
            self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
            # Begins as the mean of the snapshots themselves.
            nn.init.eye_(self.value.weight)

    def forward(self, snapshots: Tensor, present: Tensor) -> Tensor:
        """Pool `(B, K, D)` with `present` `(B, K)` to `(B, D)`."""
        mixed = self._attend(snapshots, present) if self.mode == "attention" else snapshots
        weights = present.unsqueeze(-1).to(mixed.dtype)
        count = weights.sum(1)
        pooled = (mixed * weights).sum(1) / count.clamp_min(1.0)
        return torch.where(count > 0, pooled, self.unknown)

    def _attend(self, snapshots: Tensor, present: Tensor) -> Tensor:
        scores = self.query(snapshots) @ self.key(snapshots).transpose(1, 2) / snapshots.shape[-1] ** 0.5
        # A large negative number instead of -inf: a row without any snapshot must not become NaN.
        scores = scores.masked_fill(~present.unsqueeze(1), -1e9)
        mixed: Tensor = scores.softmax(-1) @ self.value(snapshots)
        return mixed
