"""One process alone: every exchange is the identity."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ecdctr.distributed.collective import Reduction, check_splits


class SingleProcess:
    """Rank 0 of 1."""

    rank = 0
    size = 1
    local_rank = 0
    overlaps = False

    def all_reduce_(self, tensor: Tensor, op: Reduction = "sum") -> Tensor:
        """The tensor itself."""
        return tensor

    def begin_all_reduce_(self, tensor: Tensor) -> Callable[[], Tensor]:
        """The tensor itself."""
        return lambda: tensor

    def all_reduce_many_(self, tensors: Sequence[Tensor], op: Reduction = "sum") -> None:
        """Leave the tensors as they are."""

    def all_gather(self, tensor: Tensor) -> Tensor:
        """A copy of the rows."""
        return tensor.detach().clone()

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory like any other."""
        return torch.empty(tuple(shape), dtype=dtype)

    def all_reduce_and_gather_(self, tensor: Tensor, rows: Tensor) -> list[Tensor]:
        """The rows themselves."""
        return [rows.detach()]

    def all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> list[Tensor]:
        """A copy of the rows, all from this rank."""
        check_splits(tensor.shape[0], splits, 1)
        return [tensor.detach().clone()]

    def begin_all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> Callable[[], list[Tensor]]:
        """A copy of the rows, all from this rank."""
        done = self.all_to_all(tensor, splits)
        return lambda: done

    def broadcast_(self, tensor: Tensor, root: int = 0) -> Tensor:
        """The tensor itself."""
        return tensor

    def all_gather_json(self, value: Any) -> list[Any]:
        """The value alone."""
        return [value]

    def any(self, flag: bool) -> bool:
        """The flag itself."""
        return flag

    def barrier(self) -> None:
        """Nobody to wait for."""

    def same(self, digest: str) -> bool:
        """A digest equals itself."""
        return True
