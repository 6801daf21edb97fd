"""Initial values that depend on a seed alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Torch has one random state per process: ranks that are threads of one must not draw from each other's.
_DRAWING = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a random state of this seed; the one outside stays as it was."""
    with _DRAWING, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
