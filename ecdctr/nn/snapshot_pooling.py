"""Several snapshots of one id's historical embedding → one vector (arXiv 2408.16238)."""

import torch
from torch import Tensor, nn

from ecdctr.config.schema import PoolingMode


def very_low(scores: Tensor) -> float:
    """What softmax makes zero of, in the type of some scores; not -inf: a row without any other score must not become NaN."""
    return max(-1e9, torch.finfo(scores.dtype).min)


class SnapshotPooling(nn.Module):
    """Self-attention across snapshots, then the mean over those that exist; or a simpler way.

    The snapshots are frozen; the attention is trained in CPM and copied to A-CTR. An id that no snapshot knows gets a
    learned vector (both ours: the paper's figure says neither).

    Args:
        dim: Length of a vector, D.
        mode: `attention`; `mean`: the mean alone; `last`: the newest snapshot that knows the id; `concat`: all K one
            after the other, the learned vector in place of each that does not know the id.
        count: K; only `concat` asks for it.
        dropout: How likely a row trains as if no snapshot knew its id, so that the model does not lean on them alone; each
            pooling draws for itself.

    Attributes:
        width: Length of the pooled vector: D, and K · D with `concat`.
    """

    def __init__(self, dim: int, mode: PoolingMode = "attention", count: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.mode, self.dropout = mode, dropout
        self.width = count * dim if mode == "concat" else dim
        self.unknown = nn.Parameter(torch.zeros(dim))
        if mode == "attention":
            self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
            # Begins as the mean of the snapshots themselves.
            nn.init.eye_(self.value.weight)

    def forward(self, snapshots: Tensor, present: Tensor) -> Tensor:
        """Pool `(B, K, D)`, newest first, with `present` `(B, K)` to `(B, width)`."""
        if self.training and self.dropout:
            present = present & (torch.rand(len(present), 1, device=present.device) >= self.dropout)
        if self.mode == "concat":
            return torch.where(present.unsqueeze(-1), snapshots, self.unknown).flatten(1)
        if self.mode == "last":
            # The first place of the largest value is that of the newest snapshot present.
            newest = present.to(torch.int8).argmax(1)
            pooled = snapshots[torch.arange(len(snapshots), device=snapshots.device), newest]
        else:
            mixed = self._attend(snapshots, present) if self.mode == "attention" else snapshots
            weights = present.unsqueeze(-1).to(mixed.dtype)
            pooled = (mixed * weights).sum(1) / weights.sum(1).clamp_min(1.0)
        return torch.where(present.any(1, keepdim=True), pooled, self.unknown)

    def _attend(self, snapshots: Tensor, present: Tensor) -> Tensor:
        scores = self.query(snapshots) @ self.key(snapshots).transpose(1, 2) / snapshots.shape[-1] ** 0.5
        scores = scores.masked_fill(~present.unsqueeze(1), very_low(scores))
        mixed: Tensor = scores.softmax(-1) @ self.value(snapshots)
        return mixed
