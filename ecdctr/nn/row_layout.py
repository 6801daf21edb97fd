"""Where the rows of embedding tables lie: on every rank, or each on one of them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ecdctr.nn.distinct import distinct, put_rows, take_rows
from ecdctr.nn.kernels import ROWS
from ecdctr.nn.stored_rows import StoredRows, fill_every


class Ranks(Protocol):
    """What sharded tables need of the ranks that hold them."""

    @property
    def rank(self) -> int:
        """Number of this rank, from 0."""

    @property
    def size(self) -> int:
        """How many ranks there are."""

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory of the host to write into what is sent next."""

    def all_to_all(self, tensor: Tensor, splits: Sequence[int]) -> list[Tensor]:
        """Send rows of a tensor to each rank; returns what came from each, which may be gone after the next operation."""


@dataclass(frozen=True)
class Dealt:
    """Rows of a batch, dealt to the ranks that hold them.

    Attributes:
        order: Which row comes at which place when they are sent, `(U,)`.
        local: Their places in the matrix of the rank that holds them, in the order sent, `(U,)`.
        splits: How many go to each rank.
    """

    order: Tensor
    local: Tensor
    splits: list[int]


class RowLayout:
    """Fused places of all vocabularies, and which of their rows this rank holds.

    Replicated vocabularies come first; their fused places are the places in the matrix of every rank. Row i of a sharded
    vocabulary lies on rank i mod size. Its fused place begins at a multiple of the number of ranks, so that owner and place
    on the owner are remainder and quotient of the distance to the first sharded place.

    Args:
        rows: Rows of each vocabulary.
        sharded: Vocabularies of which each rank holds a part.
        ranks: The ranks that share them; None, or one alone: nothing is sharded.
    """

    def __init__(self, rows: Mapping[str, int], sharded: Collection[str] = (), ranks: Ranks | None = None) -> None:
        self.ranks = ranks
        self.rank, self.size = (ranks.rank, ranks.size) if ranks is not None else (0, 1)
        self.sharded = frozenset(sharded) if self.size > 1 else frozenset()
        self.names = [name for name in rows if name not in self.sharded]
        self.names += [name for name in rows if name in self.sharded]
        self.offsets: dict[str, int] = {}
        self.held: dict[str, int] = {}
        """How many rows of each vocabulary the matrix of a rank has room for; alike on all ranks."""
        self.first_sharded = sum(rows[name] for name in self.names if name not in self.sharded)
        end = 0
        for name in self.names:
            self.held[name] = -(-rows[name] // self.size) if name in self.sharded else rows[name]
            self.offsets[name] = end
            end += self.held[name] * (self.size if name in self.sharded else 1)
        self.end = end
        """The first number that is no fused place."""
        self.local_rows = sum(self.held.values())

    def own(self, name: str) -> tuple[int, int]:
        """First row and step of the rows of a vocabulary that this rank holds."""
        return (self.rank, self.size) if name in self.sharded else (0, 1)

    def fill(self, name: str, target: Tensor, values: Tensor | StoredRows) -> int:
        """Of values of a vocabulary's first rows, `(R, …)`, write those that this rank holds into the first rows of `target`.

        Returns:
            How many they are.
        """
        return fill_every(target, values, *self.own(name))

    def deal(self, places: Tensor) -> Dealt:
        """Deal fused places of sharded rows to the ranks that hold them; rows of one rank keep their order."""
        if ROWS is not None and places.is_cpu:
            return Dealt(*ROWS.deal(places.contiguous(), self.first_sharded, self.size))
        distance = places - self.first_sharded
        groups = distinct(distance % self.size)
        ends = [*groups.starts.tolist()[1:], len(places)]
        splits = [0] * self.size
        for owner, start, end in zip(groups.rows.tolist(), groups.starts.tolist(), ends, strict=False):
            splits[owner] = end - start
        local = distance // self.size + self.first_sharded
        return Dealt(groups.order, local.index_select(0, groups.order), splits)

    def fetch(self, weight: Tensor, rows: Tensor) -> Tensor:
        """Vectors of distinct fused rows; the sharded ones come from the ranks that hold them.

        With sharded vocabularies all ranks must call it together, also one that has no rows.

        Args:
            weight: Matrix of this rank, `(local rows, D)`.
            rows: `(U,)` int64, ascending.

        Returns:
            `(U, D)`.
        """
        if not self.sharded:
            return take_rows(weight, rows)
        assert self.ranks is not None
        cut = int(torch.searchsorted(rows, self.first_sharded))
        dealt = self.deal(rows[cut:])
        asked = self.ranks.all_to_all(dealt.local.to(self.wire), dealt.splits)
        wanted = torch.cat(asked).to(torch.int64)
        dim = weight.shape[1]
        room = self.ranks.room((len(wanted), dim), weight.dtype) if weight.is_cpu else None
        found = self.ranks.all_to_all(take_rows(weight, wanted, out=room), [len(part) for part in asked])
        vectors = weight.new_empty(len(rows), dim)
        take_rows(weight, rows[:cut], out=vectors[:cut])
        for part, places in zip(found, dealt.order.split(dealt.splits), strict=True):
            put_rows(vectors[cut:], places, part)
        return vectors

    @property
    def wire(self) -> torch.dtype:
        """The narrowest integer in which every place on a rank can be sent."""
        return torch.int32 if self.local_rows <= 2**31 else torch.int64

    def spread(self, block: Tensor, start: int, length: int, table: Tensor) -> None:
        """Hand one block of consecutive rows from each rank to the ranks that hold them; all ranks call it together.

        Args:
            block: Rows of a sharded vocabulary, `(n, …)`: of rank r those from `start` + r · `length` on; may be none.
            start: First row of rank 0's block.
            length: Rows of a block, but for the last one.
            table: Takes the rows that this rank holds.
        """
        assert self.ranks is not None
        begin = start + self.rank * length
        parts = [block[(owner - begin) % self.size :: self.size] for owner in range(self.size)]
        received = self.ranks.all_to_all(torch.cat(parts), [len(part) for part in parts])
        for sender, rows in enumerate(received):
            # The first row at or after the block's beginning that lies here.
            at = -(-(start + sender * length - self.rank) // self.size)
            table[at : at + len(rows)] = rows

    def gather(self, name: str, own: Tensor, rows: int, take: Callable[[int, Tensor], None], chunk: int) -> None:
        """Hand all rows of a vocabulary to a function on rank 0, some at a time; all ranks call it together.

        Of a replicated vocabulary every rank has them all, and is handed them at once.

        Args:
            name: The vocabulary.
            own: Something that has one entry per row held here, `(R, …)`, as `EmbeddingTables.split` gives it.
            rows: Rows of the vocabulary.
            take: Told the first row of a chunk, and its entries `(n, …)`.
            chunk: Rows at a time, over all ranks.
        """
        if name not in self.sharded:
            take(0, own)
            return
        assert self.ranks is not None
        share = max(1, chunk // self.size)
        for start in range(0, self.held[name], share):
            # Equally many from every rank, so that the parts interleave; what lies beyond the last row is cut off.
            part = own.new_zeros(min(share, self.held[name] - start), *own.shape[1:])
            have = own[start : start + share]
            part[: len(have)] = have
            got = self.ranks.all_to_all(part, [len(part)] + [0] * (self.size - 1))
            if self.rank == 0:
                mixed = torch.stack(got, 1).flatten(0, 1)
                first = start * self.size
                take(first, mixed[: rows - first])
