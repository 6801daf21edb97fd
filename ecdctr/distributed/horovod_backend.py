"""The collective over Horovod: ranks are processes, on one machine or many, and Gloo carries the bytes."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch
from torch import Tensor

from ecdctr.distributed.collective import DerivedOperations, Reduction, check_splits
from ecdctr.distributed.failures import ExchangeError


class HorovodCollective(DerivedOperations):
    """The ranks of one Horovod job; made once per process, in which it starts Horovod.

    Operations are named by kind, dtype and shape, hence alike on all ranks and again in the next step, where Horovod
    then finds what it agreed on in its response cache.
    """

    overlaps = True

    def __init__(self) -> None:
        import horovod.torch as hvd

        self._hvd = hvd
        self._internal_error: type[Exception] = hvd.mpi_ops.HorovodInternalError
        hvd.init()
        self.rank: int = hvd.rank()
        self.local_rank: int = hvd.local_rank()
        self._size: int = hvd.size()
        self.carries_gpu_tensors = bool(hvd.nccl_built())
        self._operations = {"sum": hvd.Sum, "min": hvd.Min, "max": hvd.Max}

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self._size

    def all_reduce_(self, tensor: Tensor, op: Reduction = "sum") -> Tensor:
        """See `Collective.all_reduce_`."""
        return self._begin_reduction(tensor, op)()

    def begin_all_reduce_(self, tensor: Tensor) -> Callable[[], Tensor]:
        """See `Collective.begin_all_reduce_`; Horovod's background thread carries it meanwhile."""
        return self._begin_reduction(tensor, "sum")

    def _begin_reduction(self, tensor: Tensor, op: Reduction) -> Callable[[], Tensor]:
        target = tensor.detach()
        flat = target.contiguous()
        with self._named_failure("all-reduce"):
            handle = self._hvd.allreduce_async_(flat, op=self._operations[op], name=_name(op, flat))

        def wait() -> Tensor:
            with self._named_failure("all-reduce"):
                self._hvd.synchronize(handle)
            if flat.data_ptr() != target.data_ptr():
                target.copy_(flat)
            return tensor

        return wait

    def all_gather(self, tensor: Tensor) -> Tensor:
        """See `Collective.all_gather`."""
        with self._named_failure("all-gather"):
            gathered: Tensor = self._hvd.allgather(tensor.detach().contiguous(), name=_name("gather", tensor[:0]))
        return gathered

    def all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> tuple[Tensor, list[int]]:
        """See `Collective.all_to_all`."""
        return self.begin_all_to_all(tensor, splits)()

    def begin_all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> Callable[[], tuple[Tensor, list[int]]]:
        """See `Collective.begin_all_to_all`."""
        check_splits(tensor.shape[0], splits, self.size)
        counts = torch.tensor(list(splits), dtype=torch.int32)
        with self._named_failure("all-to-all"):
            handle = self._hvd.alltoall_async(
                tensor.detach().contiguous(), splits=counts, name=_name("exchange", tensor[:0])
            )

        def wait() -> tuple[Tensor, list[int]]:
            with self._named_failure("all-to-all"):
                received, received_splits = self._hvd.synchronize(handle)
            return received, received_splits.tolist()

        return wait

    def broadcast_(self, tensor: Tensor, root: int = 0) -> Tensor:
        """See `Collective.broadcast_`."""
        target = tensor.detach()
        flat = target.contiguous()
        with self._named_failure("broadcast"):
            self._hvd.broadcast_(flat, root, name=_name(f"broadcast.{root}", flat))
        if flat.data_ptr() != target.data_ptr():
            target.copy_(flat)
        return tensor

    @contextlib.contextmanager
    def _named_failure(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._internal_error as error:
            raise ExchangeError(
                f"rank {self.rank}: an {what} with the other ranks failed: {error}",
                hint="another rank has ended, is frozen, or cannot be reached; see the ranks' logs",
            ) from error


def _name(kind: str, tensor: Tensor) -> str:
    return f"{kind}.{tensor.dtype}.{'x'.join(map(str, tensor.shape))}"
