"""Batch normalisation over the global batch: the statistics of all ranks' rows together."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Reducer(Protocol):
    """The one thing that normalisation needs of the ranks."""

    def all_reduce_(self, tensor: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        ...


class _GlobalNorm(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) with mean and variance over all ranks; their gradient is reduced likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, scale: Tensor, count: float, reducer: Reducer | None) -> Tensor:
        normal = (x - mean) * scale
        ctx.save_for_backward(normal, scale)
        ctx.count, ctx.reducer = count, reducer
        return normal

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        gradient = gradients[0]
        normal, scale = ctx.saved_tensors
        sums = torch.stack([gradient.sum(0), (gradient * normal).sum(0)])
        if ctx.reducer is not None:
            ctx.reducer.all_reduce_(sums)
        sums /= ctx.count
        return (gradient - sums[0] - normal * sums[1]) * scale, None, None, None, None


class DistributedBatchNorm(nn.Module):
    """Batch normalisation of `(B, features)` whose result does not depend on how rows are dealt to ranks.

    Parameters and buffers are named as in `torch.nn.BatchNorm1d`. A rank may have no row. A global batch of fewer than two
    rows has no variance: running statistics are used, and left as they are.

    Args:
        features: Columns.
        eps: Added to the variance.
        momentum: Weight of a new batch in the running statistics.

    Attributes:
        averaging: While true, running statistics are the plain mean over the batches since they began anew.
    """

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self.reducer: Reducer | None = None
        self.averaging = False

    def reset_running_stats(self) -> None:
        """Back to mean 0 and variance 1."""
        self.running_mean.zero_()
        self.running_var.fill_(1.0)
        self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """New statistics and a new affine part."""
        self.reset_running_stats()
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(B, features)`, then scale and shift."""
        return self.normalise(x) * self.weight + self.bias

    def normalise(self, x: Tensor) -> Tensor:
        """`(B, features)` with mean 0 and variance 1 by the global batch, in evaluation by the running statistics."""
        # Statistics and the number of rows need more digits than mixed precision may have left.
        x = x.float()
        return self._by_batch(x) if self.training else self._by_running(x)

    def _by_running(self, x: Tensor) -> Tensor:
        return (x - self.running_mean) * torch.rsqrt(self.running_var + self.eps)

    def _by_batch(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            # Shifted by the running mean, so that a sum of squares in float32 does not cancel.
            shifted = x - self.running_mean
            sums = torch.cat([shifted.sum(0), shifted.square().sum(0), x.new_tensor([float(len(x))])])
            if self.reducer is not None:
                self.reducer.all_reduce_(sums)
            count = float(sums[-1])
        if count < 2:
            return self._by_running(x)
        with torch.no_grad():
            first, second = sums[:-1].view(2, -1) / count
            variance = (second - first.square()).clamp_min(0.0)
            mean = self.running_mean + first
            share = 1.0 / (int(self.num_batches_tracked) + 1) if self.averaging else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / (count - 1), share)
            self.num_batches_tracked += 1
        normal: Tensor = _GlobalNorm.apply(x, mean, torch.rsqrt(variance + self.eps), count, self.reducer)
        return normal
