"""Ranks as threads of one process, so that logic of many ranks is tested in milliseconds."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ecdctr.distributed.collective import DerivedOperations, Reduction, check_splits

T = TypeVar("T")


class _Meeting:
    """Where threads lay down a value each and read those of all."""

    def __init__(self, size: int, seconds: float) -> None:
        self.values: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=seconds)

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.barrier.wait()
        values = list(self.values)
        # Nobody lays down the next value before all have read this one.
        self.barrier.wait()
        return values


class InlineCollective(DerivedOperations):
    """One of several ranks that are threads of one process.

    Torch's random generator belongs to the process: ranks that draw from it at the same time get numbers in no fixed
    order.
    """

    def __init__(self, rank: int, size: int, meeting: _Meeting) -> None:
        self.rank = rank
        self.local_rank = rank
        self._size = size
        self._meeting = meeting

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self._size

    def all_reduce_(self, tensor: Tensor, op: Reduction = "sum") -> Tensor:
        """See `Collective.all_reduce_`; ranks are added in their order."""
        parts = self._meeting.exchange(self.rank, tensor.detach().clone())
        total = parts[0].clone()
        for part in parts[1:]:
            if op == "sum":
                total += part
            else:
                total = torch.minimum(total, part) if op == "min" else torch.maximum(total, part)
        tensor.detach().copy_(total)
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """See `Collective.all_gather`."""
        return torch.cat(self._meeting.exchange(self.rank, tensor.detach().clone()))

    def all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> list[Tensor]:
        """See `Collective.all_to_all`."""
        check_splits(tensor.shape[0], splits, self.size)
        parts = self._meeting.exchange(self.rank, tensor.detach().clone().split(list(splits)))
        return [part[self.rank].clone() for part in parts]

    def broadcast_(self, tensor: Tensor, root: int = 0) -> Tensor:
        """See `Collective.broadcast_`."""
        tensor.detach().copy_(self._meeting.exchange(self.rank, tensor.detach().clone())[root])
        return tensor


def run_inline(size: int, function: Callable[[InlineCollective], T], seconds: float = 60.0) -> list[T]:
    """Run a function on ranks that are threads, and return what each gave.

    Args:
        size: How many ranks.
        function: Called once per rank with its collective.
        seconds: How long a rank waits for the others in one exchange.

    Raises:
        Exception: What the first failing rank raised; the others are released from their exchange.
    """
    meeting = _Meeting(size, seconds)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            results[rank] = function(InlineCollective(rank, size, meeting))
        except threading.BrokenBarrierError as error:
            errors.append(error)
        except BaseException as error:
            errors.insert(0, error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,), name=f"rank-{rank}", daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
