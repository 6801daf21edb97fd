"""What ranks can do together, whatever carries it: one process, threads, or Horovod.

Every rank must call the same operations in the same order. A decision that one rank could take alone goes through
`any`, so that all act on it in the same step or none does.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

Reduction = Literal["sum", "min", "max"]


class Collective(Protocol):
    """The ranks that train together, seen from one of them."""

    @property
    def rank(self) -> int:
        """Number of this rank, from 0."""

    @property
    def size(self) -> int:
        """How many ranks there are."""

    @property
    def local_rank(self) -> int:
        """Number of this rank among those on its machine."""

    @property
    def overlaps(self) -> bool:
        """Whether an operation that was begun goes on while the rank computes."""

    def all_reduce_(self, tensor: Tensor, op: Reduction = "sum") -> Tensor:
        """Replace a tensor by its reduction over ranks, in place.

        Args:
            tensor: Any shape, equal on all ranks; afterwards bit for bit equal too.
            op: How values of ranks are combined.

        Returns:
            The tensor given.
        """

    def begin_all_reduce_(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Start to `all_reduce_` a tensor to its sum; it is not touched until what is returned was called, which waits."""

    def all_reduce_many_(self, tensors: Sequence[Tensor], op: Reduction = "sum") -> None:
        """Reduce several tensors in place with one exchange per dtype."""

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Rows of all ranks in the order of ranks.

        Args:
            tensor: `(R, …)`; R may differ between ranks and be 0, the rest is equal.

        Returns:
            `(sum of R, …)`, equal on all ranks.
        """

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory of the host to write into what the next operation gets as its rows, which need not be copied then.

        Args:
            shape: Of the rows.
            dtype: Of their numbers.
        """

    def all_reduce_and_gather_(self, tensor: Tensor, rows: Tensor) -> list[Tensor]:
        """`all_reduce_` a tensor and gather rows, `(R, …)`, at the same time.

        Returns:
            The rows of all ranks in the order of ranks, in one part or in several. They may lie in memory that is written to
            again by the next operation but one.
        """

    def all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> list[Tensor]:
        """Send a part of the rows to each rank.

        Args:
            tensor: `(R, …)`, rows for rank 0 first.
            splits: How many rows go to each rank; they sum to R.

        Returns:
            The rows received from each rank, in the order of ranks. They may lie in memory that is written to again by
            the next operation but one.
        """

    def begin_all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> Callable[[], list[Tensor]]:
        """Start an `all_to_all`; what is returned waits for its result. One other operation may come between."""

    def broadcast_(self, tensor: Tensor, root: int = 0) -> Tensor:
        """Replace a tensor by the one of rank `root`, in place."""

    def all_gather_json(self, value: Any) -> list[Any]:
        """Small JSON values of all ranks, in the order of ranks."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on at least one rank."""

    def barrier(self) -> None:
        """Return when all ranks have come here."""

    def same(self, digest: str) -> bool:
        """Whether all ranks gave the same digest."""


class DerivedOperations(ABC):
    """What follows from reducing, gathering and broadcasting tensors."""

    overlaps = False

    @property
    @abstractmethod
    def size(self) -> int:
        """How many ranks there are."""

    @abstractmethod
    def all_reduce_(self, tensor: Tensor, op: Reduction = "sum") -> Tensor:
        """See `Collective.all_reduce_`."""

    @abstractmethod
    def all_gather(self, tensor: Tensor) -> Tensor:
        """See `Collective.all_gather`."""

    @abstractmethod
    def all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> list[Tensor]:
        """See `Collective.all_to_all`."""

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """See `Collective.room`; here memory like any other."""
        return torch.empty(tuple(shape), dtype=dtype)

    def begin_all_reduce_(self, tensor: Tensor) -> Callable[[], Tensor]:
        """See `Collective.begin_all_reduce_`; here nothing is left to wait for."""
        self.all_reduce_(tensor)
        return lambda: tensor

    def begin_all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> Callable[[], list[Tensor]]:
        """See `Collective.begin_all_to_all`; here nothing is left to wait for."""
        done = self.all_to_all(tensor, splits)
        return lambda: done

    def all_reduce_many_(self, tensors: Sequence[Tensor], op: Reduction = "sum") -> None:
        """See `Collective.all_reduce_many_`."""
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            group = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in group])
            self.all_reduce_(flat, op)
            for tensor, part in zip(group, flat.split([tensor.numel() for tensor in group]), strict=True):
                tensor.detach().copy_(part.view_as(tensor))

    def all_reduce_and_gather_(self, tensor: Tensor, rows: Tensor) -> list[Tensor]:
        """See `Collective.all_reduce_and_gather_`."""
        reduced = self.begin_all_reduce_(tensor)
        gathered = self.all_gather(rows)
        reduced()
        return [gathered]

    def all_gather_json(self, value: Any) -> list[Any]:
        """See `Collective.all_gather_json`."""
        text = json.dumps(value).encode() + b"\n"
        gathered = self.all_gather(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        # JSON on one line has no newline of its own, so it can part the ranks.
        return [json.loads(line) for line in gathered.cpu().numpy().tobytes().splitlines()]

    def any(self, flag: bool) -> bool:
        """See `Collective.any`."""
        return bool(self.all_reduce_(torch.tensor([float(flag)]), "max").item() > 0)

    def barrier(self) -> None:
        """See `Collective.barrier`."""
        self.all_reduce_(torch.zeros(1))

    def same(self, digest: str) -> bool:
        """See `Collective.same`."""
        return len(set(self.all_gather_json(digest))) == 1


def check_splits(rows: int, splits: Sequence[int], size: int) -> None:
    """Refuse splits that do not send every row to exactly one rank."""
    if len(splits) != size or sum(splits) != rows or min(splits) < 0:
        raise ValueError(f"splits {list(splits)} of {rows} rows: expected {size} counts from 0 that sum to {rows}")
