"""Compiled passes over table rows (`rows.cpp`), built when the package is installed; None where it was not built.

Without them the same results come from torch, slower. Ranks must all have them or all lack them: `builds` tells.
"""

import ctypes
import hashlib
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from ecdctr.native import library

_WHOLE, _FRACTION, _MEMORY = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


def builds() -> str:
    """Names the builds of all libraries of this folder: two that are equal compute the same bits."""
    found = sorted(Path(__file__).parent.glob("_*.so"))
    return " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in found)


class RowKernels:
    """Typed calls into the library; all tensors are on the CPU and contiguous.

    Args:
        found: The library.
    """

    def __init__(self, found: ctypes.CDLL) -> None:
        self._group, self._gather, self._merge, self._adagrad = (
            found.group_places, found.gather_rows, found.merge_rows, found.rowwise_adagrad,
        )  # fmt: skip
        self._pack, self._merge_runs = found.pack_rows, found.merge_runs
        self._deal, self._put = found.deal_places, found.put_rows
        self._deal.argtypes = [_MEMORY, *[_WHOLE] * 3, *[_MEMORY] * 4]
        self._put.argtypes = [_MEMORY, _WHOLE, _WHOLE, _MEMORY, _MEMORY]
        self._deal.restype = self._put.restype = None
        self._pack.argtypes = [_MEMORY, _MEMORY, *[_WHOLE] * 4, _MEMORY, _MEMORY]
        self._pack.restype = None
        self._merge_runs.argtypes = [_MEMORY, _MEMORY, *[_WHOLE] * 3, _MEMORY, _MEMORY]
        self._merge_runs.restype = _WHOLE
        self._group.argtypes = [_MEMORY, _WHOLE, *[_MEMORY] * 5]
        self._group.restype = _WHOLE
        self._gather.argtypes = [_MEMORY, *[_WHOLE] * 4, _MEMORY, _WHOLE, _MEMORY]
        self._gather.restype = _WHOLE
        self._merge.argtypes = [*[_MEMORY] * 3, _WHOLE, _WHOLE, _MEMORY, _WHOLE, _MEMORY, _WHOLE, _MEMORY, _WHOLE]
        self._adagrad.argtypes = [_MEMORY, _MEMORY, _WHOLE, _MEMORY, _MEMORY, _WHOLE, *[_FRACTION] * 3]
        self._merge.restype = self._adagrad.restype = None

    def group(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`rows`, `inverse`, `order` and `starts` of `Distinct` for places `(N,)` int64."""
        count = len(places)
        rows, inverse, order, starts = (torch.empty(count, dtype=torch.int64) for _ in range(4))
        scratch = torch.empty(2 * count, dtype=torch.int64)
        arrays = (rows, inverse, order, starts, scratch)
        found = self._group(places.data_ptr(), count, *(array.data_ptr() for array in arrays))
        return rows[:found], inverse, order, starts[:found]

    def gather(
        self, table: Tensor, places: Tensor, first: int = 0, width: int | None = None, out: Tensor | None = None
    ) -> Tensor:
        """`table[places]`, `(N, D)`, or the `width` columns of it from `first` on; written to `out` if given.

        Raises:
            IndexError: A place that is no row of the table.
        """
        (rows, dim), count = table.shape, len(places)
        width = dim if width is None else width
        out = torch.empty(count, width) if out is None else out
        done = self._gather(table.data_ptr(), rows, dim, first, width, places.data_ptr(), count, out.data_ptr())
        if done < count:
            raise IndexError(f"row {int(places[done])} of a table with {rows} rows")
        return out

    def merge(
        self, values: Sequence[Tensor | None], counts: Sequence[int], order: Tensor, starts: Tensor, out: Tensor
    ) -> None:
        """Sums by group of rows that stand in several matrices.

        Args:
            values: Matrices `(count, W)`, whose own numbers lie side by side; None: zeros.
            counts: Rows of each.
            order: See `Distinct`; counts the rows of all matrices, one after the other.
            starts: See `Distinct`.
            out: Gets the sums, `(U, W)`; its own numbers lie side by side.
        """
        parts = len(values)
        pointers = (ctypes.c_void_p * parts)(*(None if part is None else part.data_ptr() for part in values))
        strides = (ctypes.c_int64 * parts)(*(0 if part is None else part.stride(0) for part in values))
        bounds = (ctypes.c_int64 * (parts + 1))(*accumulate(counts, initial=0))
        self._merge(
            pointers, strides, bounds, parts, out.shape[1], order.data_ptr(), len(order), starts.data_ptr(), len(starts),
            out.data_ptr(), out.stride(0),
        )  # fmt: skip

    def deal(self, places: Tensor, first: int, ranks: int) -> tuple[Tensor, Tensor, list[int]]:
        """`order`, `local` and `splits` of `Dealt` for places `(U,)`, none below `first`."""
        count = len(places)
        order, local = torch.empty(count, dtype=torch.int64), torch.empty(count, dtype=torch.int64)
        counts, scratch = torch.empty(ranks, dtype=torch.int64), torch.empty(count + ranks, dtype=torch.int64)
        arrays = (order, local, counts, scratch)
        self._deal(places.data_ptr(), count, first, ranks, *(array.data_ptr() for array in arrays))
        return order, local, counts.tolist()

    def put(self, out: Tensor, places: Tensor, rows: Tensor) -> None:
        """`out[places] = rows`, for distinct places that are rows of `out`."""
        self._put(rows.data_ptr(), len(rows), rows.shape[1], places.data_ptr(), out.data_ptr())

    def pack(self, places: Tensor, values: Tensor, out: Tensor, order: Tensor | None = None) -> None:
        """Write rows `(U, D)`, whose own numbers lie side by side, and their numbers into one int32 matrix `(U, W)`.

        Args:
            places: The numbers.
            values: The rows.
            out: W is D + 1, or D + 2 where a number takes more than 31 bits.
            order: Which row each number belongs to; None: they stand alike.
        """
        count, dim = values.shape
        self._pack(
            places.data_ptr(), values.data_ptr(), count, dim, values.stride(0), out.shape[1],
            None if order is None else order.data_ptr(), out.data_ptr(),
        )  # fmt: skip

    def merge_runs(self, parts: Sequence[Tensor], dim: int) -> tuple[Tensor, Tensor] | None:
        """Distinct numbers and sums of what `pack` has written several times; None where they stand in no order worth using."""
        counts = [len(part) for part in parts]
        pointers = (ctypes.c_void_p * len(parts))(*(part.data_ptr() for part in parts))
        rows, sums = torch.empty(sum(counts), dtype=torch.int64), torch.empty(sum(counts), dim)
        found = self._merge_runs(
            pointers,
            (ctypes.c_int64 * len(parts))(*counts),
            len(parts),
            dim,
            parts[0].shape[1],
            rows.data_ptr(),
            sums.data_ptr(),
        )
        return None if found < 0 else (rows[:found], sums[:found])

    def rowwise_adagrad(
        self, table: Tensor, state: Tensor, places: Tensor, gradients: Tensor, lr: float, eps: float
    ) -> None:
        """One step of `RowwiseAdagrad` on distinct rows."""
        self._adagrad(
            table.data_ptr(), state.data_ptr(), table.shape[1], places.data_ptr(), gradients.data_ptr(), len(places),
            1.0, lr, eps,
        )  # fmt: skip


_FOUND = library(__file__, "_rows")
ROWS = None if _FOUND is None else RowKernels(_FOUND)
