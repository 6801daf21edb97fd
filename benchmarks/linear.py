"""Rates of the two libraries that can compute a linear layer of 32-bit floats, forward and backward, one thread."""

import time
from collections.abc import Callable
from functools import partial

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch
from torch import Tensor
from torch.nn import functional as F

from ecdctr.nn import linear as kernels

ROWS, SHAPES, REPEATS = 2048, ((324, 256), (256, 128), (128, 64)), 50


def main() -> None:
    """Print a line for each shape."""
    torch.set_num_threads(1)
    chosen = "oneDNN" if kernels.wider_kernels() else "torch's default"
    print(f"{ROWS} rows, one thread; ecdctr.nn.linear chooses {chosen} here. Forward and backward, GFLOP/s:")
    for inputs, outputs in SHAPES:
        x, weight = torch.randn(ROWS, inputs, requires_grad=True), torch.randn(outputs, inputs, requires_grad=True)
        operations = 3 * 2 * ROWS * inputs * outputs / 1e9
        default = operations / _seconds(partial(F.linear, x, weight))
        wide = operations / _seconds(partial(kernels._Product.apply, x, weight, None))
        print(f"{inputs:>5} → {outputs:<4} default {default:6.0f}   oneDNN {wide:6.0f}   ratio {wide / default:.2f}")


def _seconds(step: Callable[[], Tensor]) -> float:
    def once() -> None:
        out = step()
        out.backward(torch.ones_like(out))

    for _ in range(5):
        once()
    since = time.perf_counter()
    for _ in range(REPEATS):
        once()
    return (time.perf_counter() - since) / REPEATS


if __name__ == "__main__":
    main()
