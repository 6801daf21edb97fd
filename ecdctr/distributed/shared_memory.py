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
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

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
"""What one rank can lay down for one operation."""
SLOTS = 3
"""Of each rank, used in turns: what lies in one can be read while the next operation goes on."""
SPARE = 8
"""Memory is only taken where there is so many times as much."""
LOOK_MILLISECONDS = 200
"""How long a rank waits before it looks whether the others live."""
TOO_LARGE = -1
_LINE = 8
"""Numbers in a cache line, so that ranks do not write to one another's."""
_COUNTER, _BYTES, _KIND = 0, 1, 1 + SLOTS
"""Places in a rank's line: its counter; for the slots, bytes of the rows laid down; and what for."""


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
    size = lines + base.size * SLOTS * slot_bytes
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

    Each rank has three slots and writes to them in turns. In operation n it lays down its part, sets its counter to n, and reads
    the others' parts once their counters are at n. It writes to the same slot again after operation n + 2, hence once all
    counters were at n + 2: until a rank itself begins that operation, it may read what it got in operation n where
    it lies. Ranks are added in their order, alike on all of them.

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
        self._slots = self._bytes[first:].view(base.size, SLOTS, slot_bytes)
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
        parts = self._exchange((op, tensor.dtype, tuple(tensor.shape)), tensor)
        if parts is None:
            return self._base.all_reduce_(tensor, op)
        _reduce_([part for part, _ in parts], tensor.detach(), op)
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """See `Collective.all_gather`."""
        if _row_bytes(tensor) == 0:
            return self._base.all_gather(tensor)
        parts = self._exchange(("gather", tensor.dtype, tuple(tensor.shape[1:])), tensor)
        return self._base.all_gather(tensor) if parts is None else torch.cat(_rows(parts, tensor))

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """See `Collective.room`; where it fits, this rank's slot for the next operation."""
        wanted = math.prod(shape) * dtype.itemsize
        if wanted > self._slot_bytes:
            return super().room(shape, dtype)
        return self._slots[self.rank, (self._done + 1) % SLOTS, :wanted].view(dtype).view(tuple(shape))

    def all_reduce_and_gather_(self, tensor: Tensor, rows: Tensor) -> list[Tensor]:
        """See `Collective.all_reduce_and_gather_`."""
        if _row_bytes(rows) == 0:
            return self._base.all_reduce_and_gather_(tensor, rows)
        kind = ("reduce and gather", tensor.dtype, tuple(tensor.shape), rows.dtype, tuple(rows.shape[1:]))
        parts = self._exchange(kind, rows, tensor)
        if parts is None:
            return self._base.all_reduce_and_gather_(tensor, rows)
        _reduce_([beside for _, beside in parts], tensor.detach(), "sum")
        return _rows(parts, rows)

    def all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> list[Tensor]:
        """See `Collective.all_to_all`."""
        check_splits(tensor.shape[0], splits, self.size)
        if _row_bytes(tensor) == 0:
            return self._base.all_to_all(tensor, splits)
        bounds = torch.tensor([*accumulate(splits, initial=0)])
        parts = self._exchange(("exchange", tensor.dtype, tuple(tensor.shape[1:])), tensor, bounds)
        if parts is None:
            return self._base.all_to_all(tensor, splits)
        own = [slice(*beside.view(torch.int64)[self.rank : self.rank + 2].tolist()) for _, beside in parts]
        return [rows[mine] for rows, mine in zip(_rows(parts, tensor), own, strict=True)]

    def broadcast_(self, tensor: Tensor, root: int = 0) -> Tensor:
        """See `Collective.broadcast_`; seldom and often large, so left to the collective that is wrapped."""
        return self._base.broadcast_(tensor, root)

    def _exchange(
        self, kind: Hashable, rows: Tensor, beside: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor]] | None:
        """Lay down rows, and what goes beside them, and see what every rank has laid down.

        What is returned must be read before the next operation but one.

        Args:
            kind: The operation, equal on all ranks.
            rows: On the CPU; not copied where they lie in the room for this operation.
            beside: On the CPU, of the same size on all ranks.

        Returns:
            Bytes of both from each rank, in the order of ranks; None, alike on all ranks, where those of one do not fit.

        Raises:
            ExchangeError: Another rank has ended, keeps silent, or is in another operation.
        """
        self._done += 1
        slot = self._done % SLOTS
        own = self._lines[self.rank]
        wanted, more = rows.nbytes, 0 if beside is None else beside.nbytes
        fits = _padded(wanted) + more <= self._slot_bytes
        own[_BYTES + slot] = wanted if fits else TOO_LARGE
        own[_KIND + slot] = kind_number = _number(kind)
        if fits:
            place = self._slots[self.rank, slot]
            if not (rows.data_ptr() == place.data_ptr() and rows.is_contiguous()):
                _lay(rows, place)
            if beside is not None:
                _lay(beside, place[_padded(wanted) :])
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
        slots = self._slots[:, slot].unbind()
        return [(one[:size], one[_padded(size) :][:more]) for one, size in zip(slots, sizes.tolist(), strict=True)]

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


def _lay(tensor: Tensor, place: Tensor) -> None:
    """Write a tensor's numbers to where some bytes begin."""
    place[: tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())


def _padded(size: int) -> int:
    """The next multiple of 8 bytes, so that what follows begins where any type may."""
    return -(-size // 8) * 8


def _row_bytes(rows: Tensor) -> int:
    return math.prod(rows.shape[1:]) * rows.element_size()


@lru_cache
def _number(kind: Hashable) -> int:
    """Names an operation; those of two differ but for one chance in 2^64."""
    return int.from_bytes(hashlib.blake2b(repr(kind).encode(), digest_size=8).digest(), "little", signed=True)


def _reduce_(parts: Sequence[Tensor], into: Tensor, op: Reduction) -> None:
    """Combine the tensors whose bytes each rank gave, in the order of ranks."""
    combine = _COMBINE[op]
    first, second, *others = (part.view(into.dtype).view(into.shape) for part in parts)
    combine(first, second, out=into)
    for part in others:
        combine(into, part, out=into)


def _rows(parts: Sequence[tuple[Tensor, Tensor]], like: Tensor) -> list[Tensor]:
    """The rows whose bytes each rank gave, as they lie."""
    row = _row_bytes(like)
    return [rows.view(like.dtype).view(len(rows) // row, *like.shape[1:]) for rows, _ in parts]
