"""The collective over Horovod: ranks are processes, on one machine or many, and Gloo carries the bytes."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch
from torch import Tensor

from ecdctr.distributed.collective import DerivedOperations, Reduction, check_splits
from ecdctr.distributed.failures import ExchangeError

SHORTEST_SECONDS, LONGEST_SECONDS = 100e-6, 1e-3
"""Between two looks whether an operation is through."""
LATER = 1 / 32
"""How much later than it need be a long wait is seen to be over."""


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
                self._result(handle)
            if flat.data_ptr() != target.data_ptr():
                target.copy_(flat)
            return tensor

        return wait

    def all_gather(self, tensor: Tensor) -> Tensor:
        """See `Collective.all_gather`."""
        with self._named_failure("all-gather"):
            handle = self._hvd.allgather_async(tensor.detach().contiguous(), name=_name("gather", tensor[:0]))
            gathered: Tensor = self._result(handle)
        return gathered

    def all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> list[Tensor]:
        """See `Collective.all_to_all`."""
        return self.begin_all_to_all(tensor, splits)()

    def begin_all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> Callable[[], list[Tensor]]:
        """See `Collective.begin_all_to_all`."""
        check_splits(tensor.shape[0], splits, self.size)
        counts = torch.tensor(list(splits), dtype=torch.int32)
        with self._named_failure("all-to-all"):
            handle = self._hvd.alltoall_async(
                tensor.detach().contiguous(), splits=counts, name=_name("exchange", tensor[:0])
            )

        def wait() -> list[Tensor]:
            with self._named_failure("all-to-all"):
                received, counts = self._result(handle)
            return list(received.split(counts.tolist()))

        return wait

    def broadcast_(self, tensor: Tensor, root: int = 0) -> Tensor:
        """See `Collective.broadcast_`."""
        target = tensor.detach()
        flat = target.contiguous()
        with self._named_failure("broadcast"):
            self._result(self._hvd.broadcast_async_(flat, root, name=_name(f"broadcast.{root}", flat)))
        if flat.data_ptr() != target.data_ptr():
            target.copy_(flat)
        return tensor

    def _result(self, handle: int) -> Any:
        """Wait for an operation, asleep between looks.

        Horovod's own wait gives its turn away without end and takes it back at once: on the core that its background thread and
        Gloo's, the reader's, and where ranks are more than cores the other ranks', need to come to that end.
        """
        began = time.perf_counter()
        while not self._hvd.poll(handle):
            waited = time.perf_counter() - began
            time.sleep(min(max(waited * LATER, SHORTEST_SECONDS), LONGEST_SECONDS))
        return self._hvd.synchronize(handle)

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
