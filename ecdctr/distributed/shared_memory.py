"""The collective of ranks that share a machine: tensors pass through memory that all have mapped, and counters tell when they lie there.

Gloo sends every byte through the loopback interface, after a round of agreement in a background thread that wakes once a
millisecond. Ranks of one machine can read each other's tensors where they were written. Everything too large for
a slot of it, and every rank on another machine, goes through the collective that is wrapped.
"""

import ctypes
import hashlib
import logging
import math
import mmap
import os
import uuid
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import psutil
import torch
from torch import Tensor

from ecdctr import processes
from ecdctr.distributed.collective import Collective, DerivedOperations, Reduction, check_splits
from ecdctr.distributed.failures import ExchangeError
from ecdctr.native import library

_COMBINE: dict[Reduction, Callable[..., Tensor]] = {"sum": torch.add, "min": torch.minimum, "max": torch.maximum}
logger = logging.getLogger(__name__)

SLOT_BYTES = 8 << 20
"""What one rank can lay down for one operation; two such slots for each rank are reserved."""
SPARE = 8
"""Memory is only taken where there is so many times as much."""
LOOK_MILLISECONDS = 200
"""How long a rank waits before it looks whether the others live."""
TOO_LARGE = -1
_LINE = 8
"""Numbers in a cache line, so that ranks do not write to one another's."""
_COUNTER, _BYTES, _KIND = 0, 1, 3
"""Places in a rank's line: its counter; for the slots, bytes laid down; and what for."""


class _Counters:
    """Typed calls into the library of `counters.cpp`."""

    def __init__(self, found: ctypes.CDLL) -> None:
        self.publish, self.await_all = found.publish, found.await_all
        self.publish.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        self.publish.restype = None
        self.await_all.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * 4]
        self.await_all.restype = ctypes.c_int64


_FOUND = library(__file__, "_counters")
COUNTERS = None if _FOUND is None else _Counters(_FOUND)


def sharing_memory(base: Collective, stall_seconds: int, slot_bytes: int = SLOT_BYTES) -> Collective:
    """The collective through shared memory where all ranks have one, else the one given; called on all ranks at once.

    The memory has no name in any folder, so nothing is left of it however the ranks end.

    Args:
        base: The ranks.
        stall_seconds: After so long without a sign from another rank, a rank gives up instead of waiting for ever.
        slot_bytes: What a rank can lay down for one operation.
    """
    if base.size == 1:
        return base
    if not base.same(_machine() if COUNTERS is not None else uuid.uuid4().hex):
        logger.info("ranks exchange through Horovod: they are on several machines, or lack the library of counters")
        return base
    lines = -(-base.size * _LINE * 8 // mmap.PAGESIZE) * mmap.PAGESIZE
    size = lines + base.size * 2 * slot_bytes
    descriptor = _reserve(size) if base.rank == 0 else None
    processes = [int(pid) for pid in base.all_gather_json(os.getpid())]
    shared = base.all_gather_json(descriptor)[0]
    memory = None if shared is None else _map(f"/proc/{processes[0]}/fd/{shared}", size)
    complete = memory is not None and all(map(_alive, processes))
    # Kept open until all have mapped it.
    everybody = not base.any(not complete)
    if descriptor is not None:
        os.close(descriptor)
    if not everybody or memory is None:
        logger.info("ranks exchange through Horovod: %d bytes of shared memory could not be had by all", size)
        return base
    others = {rank: pid for rank, pid in enumerate(processes) if rank != base.rank}
    return SharedMemoryCollective(base, memory, lines, slot_bytes, stall_seconds, others)


def _machine() -> str:
    """Equal for processes that see each other."""
    return processes.machine() or uuid.uuid4().hex


def _reserve(size: int) -> int | None:
    """The descriptor of so many bytes of zeros; None where the machine has not got them to spare."""
    # Reserving more than there is would not fail: the kernel would end processes until there is.
    if size * SPARE > psutil.virtual_memory().available:
        return None
    descriptor = os.memfd_create("ecdctr-exchange", os.MFD_CLOEXEC)
    try:
        # Taken now: memory that runs out later would end the process at a write into the mapping.
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _map(path: str, size: int) -> mmap.mmap | None:
    """What another process has reserved; None where this one may not open it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


def _alive(process: int) -> bool:
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class SharedMemoryCollective(DerivedOperations):
    """Ranks of one machine; made by `sharing_memory`.

    Each rank has two slots and writes to them in turns. In operation n it lays down its part, sets its counter to n, and reads the
    others' parts once their counters are at n. It writes to the same slot again in operation n + 2, hence after all
    counters were at n + 1, and so after all have read what lay there. Ranks are added in their order, alike on all of them.

    Args:
        base: The ranks, for what does not fit into a slot.
        memory: The mapped file, equal on all ranks and zero.
        first: Byte at which the slots begin.
        slot_bytes: Of each.
        stall_seconds: After so long without a sign from another rank, a rank gives up.
        others: Process numbers by rank.
    """

    def __init__(
        self,
        base: Collective,
        memory: mmap.mmap,
        first: int,
        slot_bytes: int,
        stall_seconds: int,
        others: Mapping[int, int],
    ) -> None:
        self.rank, self.local_rank, self._size = base.rank, base.local_rank, base.size
        self._base, self._slot_bytes, self._stall_seconds = base, slot_bytes, stall_seconds
        self._bytes = torch.frombuffer(memory, dtype=torch.uint8)
        self._lines = np.frombuffer(memory, np.int64, base.size * _LINE).reshape(base.size, _LINE)
        self._slots = self._bytes[first:].view(base.size, 2, slot_bytes)
        self._counters = self._bytes.data_ptr()
        self._done = 0
        self._others = others

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self._size

    @property
    def base(self) -> Collective:
        """What carries what does not fit here."""
        return self._base

    def all_reduce_(self, tensor: Tensor, op: Reduction = "sum") -> Tensor:
        """See `Collective.all_reduce_`."""
        parts = self._exchange((op, tensor.dtype, tuple(tensor.shape)), [tensor])
        if parts is None:
            return self._base.all_reduce_(tensor, op)
        _reduce_(parts, tensor.detach(), op)
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """See `Collective.all_gather`."""
        if _row_bytes(tensor) == 0:
            return self._base.all_gather(tensor)
        parts = self._exchange(("gather", tensor.dtype, tuple(tensor.shape[1:])), [tensor])
        return self._base.all_gather(tensor) if parts is None else _join(parts, tensor)

    def all_reduce_and_gather_(self, tensor: Tensor, rows: Tensor) -> Tensor:
        """See `Collective.all_reduce_and_gather_`."""
        if _row_bytes(rows) == 0:
            return self._base.all_reduce_and_gather_(tensor, rows)
        kind = ("reduce and gather", tensor.dtype, tuple(tensor.shape), rows.dtype, tuple(rows.shape[1:]))
        parts = self._exchange(kind, [tensor, rows])
        if parts is None:
            return self._base.all_reduce_and_gather_(tensor, rows)
        _reduce_(parts, tensor.detach(), "sum")
        return _join([part[_padded(tensor) :] for part in parts], rows)

    def all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> tuple[Tensor, list[int]]:
        """See `Collective.all_to_all`."""
        check_splits(tensor.shape[0], splits, self.size)
        row = _row_bytes(tensor)
        if row == 0:
            return self._base.all_to_all(tensor, splits)
        bounds = torch.tensor([0, *splits], dtype=torch.int64).cumsum(0)
        parts = self._exchange(("exchange", tensor.dtype, tuple(tensor.shape[1:])), [bounds, tensor])
        if parts is None:
            return self._base.all_to_all(tensor, splits)
        mine, counts = [], []
        for part in parts:
            begin, end = part[: _size(bounds)].view(torch.int64)[self.rank : self.rank + 2].tolist()
            mine.append(part[_padded(bounds) :][begin * row : end * row])
            counts.append(end - begin)
        return _join(mine, tensor), counts

    def broadcast_(self, tensor: Tensor, root: int = 0) -> Tensor:
        """See `Collective.broadcast_`; seldom and often large, so left to the collective that is wrapped."""
        return self._base.broadcast_(tensor, root)

    def _exchange(self, kind: object, tensors: Sequence[Tensor]) -> list[Tensor] | None:
        """Lay down tensors, one after the other, and see what every rank has laid down.

        What is returned must be read before the next operation.

        Args:
            kind: The operation, equal on all ranks.
            tensors: On the CPU.

        Returns:
            Bytes of each rank, in the order of ranks; None, alike on all ranks, where those of one do not fit.

        Raises:
            ExchangeError: Another rank has ended, keeps silent, or is in another operation.
        """
        self._done += 1
        slot = self._done % 2
        own = self._lines[self.rank]
        total = sum(map(_padded, tensors[:-1])) + _size(tensors[-1])
        own[_BYTES + slot] = total if total <= self._slot_bytes else TOO_LARGE
        own[_KIND + slot] = kind_number = _number(kind)
        if total <= self._slot_bytes:
            at = 0
            for tensor in tensors:
                place = self._slots[self.rank, slot, at : at + _size(tensor)]
                place.view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())
                at += _padded(tensor)
        assert COUNTERS is not None
        COUNTERS.publish(self._counters + self.rank * _LINE * 8, self._done)
        self._wait()
        kinds, sizes = self._lines[:, _KIND + slot], self._lines[:, _BYTES + slot]
        if (kinds != kind_number).any():
            other = int(np.flatnonzero(kinds != kind_number)[0])
            raise ExchangeError(
                f"rank {self.rank} is in operation {self._done}, {kind}, and rank {other} in another one",
                hint="all ranks must call the same operations in the same order",
            )
        if (sizes == TOO_LARGE).any():
            return None
        return [self._slots[rank, slot, : int(sizes[rank])] for rank in range(self.size)]

    def _wait(self) -> None:
        assert COUNTERS is not None
        looks = max(1, self._stall_seconds * 1000 // LOOK_MILLISECONDS)
        missing = 0
        for _ in range(looks):
            missing = COUNTERS.await_all(self._counters, _LINE, self.size, self._done, LOOK_MILLISECONDS)
            if missing == self.size:
                return
            gone = [
                rank
                for rank, process in self._others.items()
                if self._lines[rank, _COUNTER] < self._done and not _alive(process)
            ]
            if gone:
                raise ExchangeError(
                    f"rank {self.rank}: an exchange with the other ranks failed: rank {gone[0]} has ended",
                    hint="see the ranks' logs",
                )
        raise ExchangeError(
            f"rank {self.rank}: an exchange with the other ranks failed: rank {missing} has not come within "
            f"{self._stall_seconds} s",
            hint="it is frozen or far behind; see the ranks' logs, or raise stall_seconds",
        )


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _padded(tensor: Tensor) -> int:
    """Bytes of a tensor up to the next multiple of 8, so that the following one begins where any type may."""
    return -(-_size(tensor) // 8) * 8


def _row_bytes(rows: Tensor) -> int:
    return math.prod(rows.shape[1:]) * rows.element_size()


def _number(kind: object) -> int:
    """Names an operation; those of two differ but for one chance in 2^64."""
    return int.from_bytes(hashlib.blake2b(repr(kind).encode(), digest_size=8).digest(), "little", signed=True)


def _reduce_(parts: Sequence[Tensor], into: Tensor, op: Reduction) -> None:
    """Combine the tensors with which each rank's bytes begin, in the order of ranks."""
    combine = _COMBINE[op]
    first, second, *others = (part[: _size(into)].view(into.dtype).view(into.shape) for part in parts)
    total = combine(first, second)
    for part in others:
        combine(total, part, out=total)
    into.copy_(total)


def _join(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """Rows whose bytes lie apart, in one tensor."""
    row = _row_bytes(like)
    return torch.cat([part.view(like.dtype).view(len(part) // row, *like.shape[1:]) for part in parts])
