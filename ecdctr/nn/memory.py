"""Memory for what has numbers of its own for every row of a table."""

import math
import mmap
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

HUGE = 2 << 20
"""Bytes of a huge page. The kernel lays a mapping of whole ones to where one begins."""


def zeros(shape: Sequence[int], device: torch.device) -> Tensor:
    """float32 zeros; on the host, large ones in huge pages where the system has them.

    A step touches rows all over a table. In pages of 4 KiB nearly every one of them needs an address translated that the
    processor has forgotten since.

    Raises:
        RuntimeError, OSError: Not enough memory.
    """
    count = math.prod(shape)
    if device.type != "cpu" or 4 * count < HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(tuple(shape), device=device)
    memory = mmap.mmap(-1, -(-4 * count // HUGE) * HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A kernel without huge pages refuses.
    with suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32, count=count).view(tuple(shape))
