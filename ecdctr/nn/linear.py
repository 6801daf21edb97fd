"""Linear maps of 32-bit floats, by the matrix kernels that are the fastest on this processor."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SMALL = 1 << 20
"""Multiplications below which the call itself costs more than the kernels differ."""


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """`(…, inputs)` → `(…, outputs)`."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x Wᵀ + b`, as `torch.nn.functional.linear` has it, with the same precision.

    On AMD processors with AVX-512, torch's own choice for 32-bit floats is a library that leaves half of their width unused;
    oneDNN, which comes with torch too, does not. The choice depends on processor, types and shapes alone, so a run that is
    repeated or resumed on the same kind of machine takes the same kernels.

    Args:
        x: `(…, inputs)`.
        weight: `(outputs, inputs)`.
        bias: `(outputs,)`.
    """
    # A compiler chooses kernels itself and has no rule for these; a graph that is exported serves any number of rows, on any
    # processor.
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return F.linear(x, weight, bias)
    rows = x.numel() // max(x.shape[-1], 1)
    plain = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if not plain or rows * weight.numel() < SMALL or not wider_kernels():
        return F.linear(x, weight, bias)
    # Rows that lie apart cost these kernels twenty times what copying them does.
    out: Tensor = _Product.apply(x.reshape(rows, x.shape[-1]).contiguous(), weight, bias)
    # What is changed in place should be no view: autograd would copy it, and its gradient, several times.
    return out if x.dim() == 2 else out.view(*x.shape[:-1], weight.shape[0])


@cache
def wider_kernels() -> bool:
    """Whether oneDNN's kernels use more of this processor than torch's usual ones."""
    cpu = Path("/proc/cpuinfo")
    amd = cpu.exists() and "AuthenticAMD" in cpu.read_text(encoding="utf-8", errors="replace")[:2000]
    has_op = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return amd and torch.backends.cpu.get_cpu_capability() == "AVX512" and has_op


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        gradient = gradient.contiguous()
        return (
            _product(gradient, weight.t()) if of_x else None,
            _product(gradient.t(), x.t()) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )
