"""How gradients of table rows get to the ranks that update them.

Rows of replicated vocabularies go to all ranks, those of sharded ones to the rank that holds them. Either way a row's
gradients are added in the order of ranks, so both ways give the same bits.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ecdctr.distributed.collective import Collective
from ecdctr.nn.distinct import distinct
from ecdctr.nn.kernels import ROWS
from ecdctr.nn.row_layout import RowLayout

HALF = 31
"""Bits of a row number that travel in one signed 32-bit integer."""


def exchange_gradients(
    collective: Collective,
    layout: RowLayout,
    buffer: Tensor,
    places: Tensor,
    gradients: Tensor,
    begun: Callable[[], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum the network's gradients in place, and those of touched rows where they are held; in one round of the ranks.

    Args:
        collective: The ranks.
        layout: Of the tables.
        buffer: The network's gradients, equal in shape on all ranks.
        places: Fused rows that this rank has touched, `(U,)` ascending; may be none.
        gradients: Of these rows, `(U, D)`.
        begun: Waits for the sum of the buffer, where it was begun before.

    Returns:
        Touched rows of the matrix of this rank, `(U',)` ascending, and the sums of their gradients `(U', D)`.
    """
    if collective.size == 1:
        return places, gradients
    dim = gradients.shape[1]

    def replicated(places: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        packed = pack_rows(places, gradients, wide=layout.end > 1 << HALF, room=collective.room)
        if begun is None:
            return merge_packed(collective.all_reduce_and_gather_(buffer, packed), dim)
        rows = collective.all_gather(packed)
        begun()
        return merge_packed([rows], dim)

    if not layout.sharded:
        return replicated(places, gradients)
    cut = int(torch.searchsorted(places, layout.first_sharded))
    dealt = layout.deal(places[cut:])
    wide = layout.local_rows > 1 << HALF
    sent = pack_rows(dealt.local, gradients[cut:], wide=wide, order=dealt.order, room=collective.room)
    received = collective.begin_all_to_all(sent, dealt.splits)
    if not layout.first_sharded:
        (begun or collective.begin_all_reduce_(buffer))()
        return merge_packed(received(), dim)
    # One operation between sending and reading. Sharded rows lie behind the replicated ones, so the two stay in ascending order.
    parts = zip(replicated(places[:cut], gradients[:cut]), merge_packed(received(), dim), strict=True)
    rows, sums = (torch.cat(pair) for pair in parts)
    return rows, sums


def add_up(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Distinct rows, ascending, and sums of gradients of several look-ups, each with distinct rows; in their order."""
    if len(parts) == 1:
        return parts[0]
    groups = distinct(torch.cat([places for places, _ in parts]))
    return groups.rows, groups.merge(torch.cat([gradients for _, gradients in parts]))


def pack_rows(
    places: Tensor,
    gradients: Tensor,
    *,
    wide: bool,
    order: Tensor | None = None,
    room: Callable[[Sequence[int], torch.dtype], Tensor] = lambda shape, dtype: torch.empty(*shape, dtype=dtype),
) -> Tensor:
    """Touched rows and their gradients as one int32 matrix, for one exchange instead of two.

    The bits of both travel as integers, which no transport rounds.

    Args:
        places: Row numbers `(U,)`; may be none.
        gradients: Their gradients `(U, D)`.
        wide: Whether a row number needs more than 31 bits.
        order: Which of the gradients each place belongs to, `(U,)`; None: they stand alike.
        room: Gives memory of the host for the matrix, of some shape and type; see `Collective.room`.

    Returns:
        `(U, D + 1)`, or `(U, D + 2)` where wide.
    """
    if ROWS is not None and gradients.is_cpu:
        values = gradients if gradients.stride(-1) == 1 else gradients.contiguous()
        packed = room((len(places), gradients.shape[1] + (2 if wide else 1)), torch.int32)
        ROWS.pack(places.contiguous(), values, packed, order)
        return packed
    if order is not None:
        gradients = gradients.index_select(0, order)
    numbers = torch.stack([places >> HALF, places & ((1 << HALF) - 1)], 1) if wide else places.unsqueeze(1)
    return torch.cat([gradients.contiguous().view(torch.int32), numbers.to(torch.int32)], 1)


def merge_packed(parts: Sequence[Tensor], dim: int) -> tuple[Tensor, Tensor]:
    """Distinct rows, ascending, and the sums of their gradients, added in the order in which they stand.

    Args:
        parts: What `pack_rows` gave on each rank, in the order of ranks, whole or in parts: so the bits are the same
            wherever it is merged.
        dim: D.
    """
    if ROWS is not None and parts[0].is_cpu:
        merged = ROWS.merge_runs([part.contiguous() for part in parts], dim)
        if merged is not None:
            return merged
    packed = torch.cat(list(parts))
    numbers = packed[:, dim:].to(torch.int64)
    places = (numbers[:, 0] << HALF) | numbers[:, 1] if numbers.shape[1] == 2 else numbers[:, 0]
    groups = distinct(places)
    return groups.rows, groups.merge(packed.view(torch.float32)[:, :dim])
