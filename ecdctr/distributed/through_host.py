"""A collective for tensors on a GPU: as it is where it can carry them, else by way of the host's memory."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ecdctr.distributed.collective import Collective, DerivedOperations, Reduction

logger = logging.getLogger(__name__)


def for_device(collective: Collective, device: torch.device) -> Collective:
    """The collective that can carry tensors of a device.

    Horovod carries those of a GPU itself where it was built with NCCL (`HOROVOD_GPU_OPERATIONS=NCCL`); the wheel that
    `make setup` builds is not.

    Args:
        collective: The ranks.
        device: Where the tensors are.
    """
    if device.type == "cpu" or collective.size == 1:
        return collective
    for carrier in (collective, getattr(collective, "base", None)):
        if getattr(carrier, "carries_gpu_tensors", False):
            return carrier  # type: ignore[return-value]
    if collective.rank == 0:
        logger.info("ranks exchange through the host's memory: Horovod was built without NCCL")
    return ThroughHost(collective)


class ThroughHost(DerivedOperations):
    """Copies what is exchanged to the host's memory, and what comes back to the device it came from.

    Args:
        base: The ranks, which carry tensors of the host alone.
    """

    def __init__(self, base: Collective) -> None:
        self.base = base
        self.rank, self.local_rank = base.rank, base.local_rank

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self.base.size

    def all_reduce_(self, tensor: Tensor, op: Reduction = "sum") -> Tensor:
        """See `Collective.all_reduce_`."""
        return _back(tensor, self.base.all_reduce_(_host(tensor), op))

    def all_gather(self, tensor: Tensor) -> Tensor:
        """See `Collective.all_gather`."""
        return self.base.all_gather(_host(tensor)).to(tensor.device)

    def all_reduce_and_gather_(self, tensor: Tensor, rows: Tensor) -> list[Tensor]:
        """See `Collective.all_reduce_and_gather_`."""
        reduced = _host(tensor)
        gathered = self.base.all_reduce_and_gather_(reduced, _host(rows))
        _back(tensor, reduced)
        return [part.to(rows.device) for part in gathered]

    def all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> list[Tensor]:
        """See `Collective.all_to_all`."""
        return self.begin_all_to_all(tensor, splits)()

    def begin_all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> Callable[[], list[Tensor]]:
        """See `Collective.begin_all_to_all`."""
        wait = self.base.begin_all_to_all(_host(tensor), splits)

        return lambda: [part.to(tensor.device) for part in wait()]

    def broadcast_(self, tensor: Tensor, root: int = 0) -> Tensor:
        """See `Collective.broadcast_`."""
        return _back(tensor, self.base.broadcast_(_host(tensor), root))


def _host(tensor: Tensor) -> Tensor:
    """A contiguous copy on the host."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _back(tensor: Tensor, values: Tensor) -> Tensor:
    tensor.detach().copy_(values)
    return tensor
