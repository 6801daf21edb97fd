"""What tells two sets of parameters apart."""

import hashlib
from collections.abc import Mapping

from torch import Tensor


def parameter_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes of tensors, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].detach().cpu().contiguous().numpy().reshape(-1).data)
    return total.hexdigest()
