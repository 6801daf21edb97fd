"""All embedding tables of a model as one fused matrix, of which a step touches only the rows of its batch."""

import copy
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecdctr.exceptions import TrainingError
from ecdctr.features.encoding import FIRST_BUCKET, PADDING, first_token_id
from ecdctr.nn.distinct import distinct, take_rows
from ecdctr.nn.memory import zeros
from ecdctr.nn.row_layout import Ranks, RowLayout
from ecdctr.nn.stored_rows import StoredRows

INIT_STD = 0.01
INIT_BLOCK = 65536


class EmbeddingTables:
    """The rows of every vocabulary in one float32 matrix.

    Autograd never sees the matrix: a training look-up takes the batch's distinct rows out as a leaf, whose gradient is
    then already merged by row. So a step costs what its batch costs, whatever the size of the vocabularies. Memory is
    taken when the matrix is first used; before that, `shard` may leave parts of it to other ranks.

    Args:
        rows: Known rows of each vocabulary; an id beyond them is read as its out-of-vocabulary bucket.
        oov_buckets: Out-of-vocabulary buckets of each vocabulary.
        dim: Length of a vector, D.
        seed: Of the initial values (normal, standard deviation 0.01), which depend on seed, vocabulary and row alone:
            a table that has grown has the same first rows.

    Raises:
        TrainingError: A vocabulary with fewer rows than padding, missing and its buckets take.

    Attributes:
        device: Where the rows are.
        dims: Of vocabularies whose rows learn only some numbers: from the first of those left out to the end of them.
        seconds: Spent in look-ups so far, from ids to vectors; waits for ranks that hold sharded rows included.
    """

    def __init__(self, rows: Mapping[str, int], oov_buckets: Mapping[str, int], dim: int, seed: int) -> None:
        self.rows = dict(rows)
        self.oov_buckets = {name: oov_buckets[name] for name in rows}
        small = [name for name in rows if rows[name] < first_token_id(oov_buckets[name])]
        if small:
            raise TrainingError(
                f"vocabularies {small} have rows {[rows[name] for name in small]}, fewer than 2 + their buckets",
                hint="take the known rows from the vocabulary table, as `rows_after_blocks` counts them",
            )
        self.dim = dim
        self.seed = seed
        self.seconds = 0.0
        self.dims: dict[str, tuple[int, int]] = {}
        self.device = torch.device("cpu")
        self._weight: Tensor | None = None
        self._undrawn = list(rows)
        """Vocabularies whose rows nobody has given or drawn yet."""
        self._columns: dict[tuple[str, ...], tuple[Tensor, ...]] = {}
        self._touched: tuple[Tensor, Tensor] | None = None
        self._set_layout(RowLayout(self.rows))

    def _set_layout(self, layout: RowLayout) -> None:
        self.layout = layout
        self.offsets = layout.offsets
        self._padding = torch.tensor([layout.offsets[name] for name in layout.names], device=self.device) + PADDING
        self._columns.clear()

    def to(self, device: torch.device) -> None:
        """Keep the rows on another device.

        Raises:
            TrainingError: The tables are in use already.
        """
        if self._weight is not None:
            raise TrainingError(
                "tables that are in use cannot be moved to another device", hint="move them right after building"
            )
        self.device = device
        self._set_layout(self.layout)

    def shard(self, sharded: Collection[str], ranks: Ranks) -> None:
        """Leave each row of some vocabularies to one rank; all ranks say so, before they use the tables.

        Args:
            sharded: The vocabularies; the others stay whole on every rank.
            ranks: The ranks that hold them. From then on every look-up is an exchange in which all take part.

        Raises:
            TrainingError: The tables are in use already.
        """
        if self._weight is not None:
            raise TrainingError(
                "tables that are in use cannot be dealt to ranks", hint="shard them right after building"
            )
        self._set_layout(RowLayout(self.rows, sharded, ranks))

    def narrow(self, dims: Mapping[str, int], *, first_order: bool = False) -> None:
        """Let rows of some vocabularies learn only their first numbers: the others begin at zero and stay there.

        Args:
            dims: How many numbers, by vocabulary.
            first_order: Whether the last number of a row is learned all the same.

        Raises:
            TrainingError: The tables are in use already.
        """
        if self._weight is not None:
            raise TrainingError("tables that are in use cannot be narrowed", hint="narrow them right after building")
        self.dims = {name: (dim, self.dim - first_order) for name, dim in dims.items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> "EmbeddingTables":
        # Ranks are the process's own: a copy exchanges rows with the same ones.
        twin = copy.copy(self)
        memo[id(self)] = twin
        twin._weight = None if self._weight is None else twin.new_rows(self.dim).copy_(self._weight)
        twin._undrawn = list(self._undrawn)
        twin._columns, twin._touched = {}, None
        return twin

    @property
    def weight(self) -> Tensor:
        """All rows that this rank holds, `(local rows, D)`: of replicated vocabularies, then of sharded ones.

        Raises:
            TrainingError: Not enough memory.
        """
        self.draw()
        return self._matrix()

    def draw(self) -> None:
        """Take memory for the rows, and draw those that nobody has given; with sharded vocabularies by all ranks together."""
        while self._undrawn:
            self._initialise(self._undrawn.pop(0))

    def _matrix(self) -> Tensor:
        if self._weight is None:
            self._weight = self.new_rows(self.dim)
        return self._weight

    def new_rows(self, *shape: int) -> Tensor:
        """Zeros for every row that this rank holds: `(local rows, *shape)`.

        Raises:
            TrainingError: Not enough memory.
        """
        wanted = (self.layout.local_rows, *shape)
        try:
            return zeros(wanted, self.device)
        except (RuntimeError, OSError) as error:
            raise TrainingError(
                f"no memory for {4 * int(np.prod(wanted)):,} bytes, {wanted[0]:,} rows of embedding tables on this rank",
                hint="train with tables.exchange row_wise on more ranks, a smaller embedding_dim, or more memory",
            ) from error

    def _initialise(self, name: str, given: int = 0) -> None:
        """Draw the rows of a vocabulary; of its first `given` ones, which are to be overwritten, no more than a block's."""
        table = self.split(self._matrix())[name]
        first, end = given // INIT_BLOCK, -(-self.rows[name] // INIT_BLOCK)
        if name in self.layout.sharded:
            # Each rank draws some of the blocks and hands their rows to those that hold them.
            for turn in range(first, end, self.layout.size):
                block = turn + self.layout.rank
                drawn = self._drawn(name, block) if block < end else torch.empty(0, self.dim)
                self.layout.spread(drawn, turn * INIT_BLOCK, INIT_BLOCK, table)
        else:
            for block in range(first, end):
                table[block * INIT_BLOCK : (block + 1) * INIT_BLOCK] = self._drawn(name, block)
        if self.layout.own(name)[0] == 0:
            table[PADDING] = 0.0
        if name in self.dims:
            table[:, slice(*self.dims[name])] = 0.0

    def _drawn(self, name: str, block: int) -> Tensor:
        """Initial values of one block of rows."""
        rows = min(INIT_BLOCK, self.rows[name] - block * INIT_BLOCK)
        # Rows are drawn one after another, so a block that is not full yet has the first rows of the full one.
        generator = np.random.default_rng([self.seed, *name.encode(), block])
        return torch.from_numpy(generator.standard_normal((rows, self.dim), dtype=np.float32)).mul_(INIT_STD)

    def table(self, name: str) -> Tensor:
        """View of the rows `(R, D)` of one vocabulary that this rank holds; of a sharded one every `size`-th."""
        return self.tables()[name]

    def tables(self) -> dict[str, Tensor]:
        """Views of all vocabularies, as `table` gives them."""
        return self.split(self.weight)

    def split(self, whole: Tensor) -> dict[str, Tensor]:
        """Views by vocabulary of something that has one entry per row held here."""
        layout = self.layout
        parts = whole.split([layout.held[name] for name in layout.names])
        # A rank that comes after the last row has room for one more row than it holds.
        return {
            name: part[: len(range(layout.own(name)[0], self.rows[name], layout.own(name)[1]))]
            for name, part in zip(layout.names, parts, strict=True)
        }

    def load_table(self, name: str, values: Tensor | StoredRows) -> int:
        """Take over the first rows of a vocabulary.

        Args:
            name: The vocabulary.
            values: `(rows given, D)`, at most as many as the vocabulary has; of a sharded one each rank takes its own.

        Returns:
            How many rows the table has beyond them; they keep their fresh values.

        Raises:
            TrainingError: No such vocabulary, another D, or more rows than the table has.
        """
        if name not in self.rows:
            raise TrainingError(f"no table {name!r}; the model has {', '.join(self.rows)}")
        if values.ndim != 2 or values.shape[1] != self.dim or len(values) > self.rows[name]:
            raise TrainingError(
                f"table {name!r} is {(self.rows[name], self.dim)}, found {tuple(values.shape)}; it may only grow",
                hint="give the model at least the rows of what it is loaded from, and the same embedding_dim",
            )
        table = self.split(self._matrix())[name]
        if name in self._undrawn:
            self._undrawn.remove(name)
            self._initialise(name, len(values))
        self.layout.fill(name, table, values)
        return self.rows[name] - len(values)

    def places(self, ids: Tensor, *vocabularies: str) -> Tensor:
        """Rows of the fused matrix; an id beyond a vocabulary's known rows is read as its bucket.

        Args:
            ids: `(…, F)` with one vocabulary per column, or any shape with one vocabulary for all.
            vocabularies: Their names.
        """
        since = time.perf_counter()
        if vocabularies not in self._columns:
            named = ((self.rows[name], self.oov_buckets[name], self.offsets[name]) for name in vocabularies)
            self._columns[vocabularies] = torch.tensor(list(named), device=self.device).unbind(1)
        rows, buckets, offsets = self._columns[vocabularies]
        late = ids >= rows
        if late.any():
            # Equal to encoding.bucket_id: the first token's id is FIRST_BUCKET + buckets, of the same class.
            ids = torch.where(late, FIRST_BUCKET + (ids - FIRST_BUCKET) % buckets, ids)
        places = ids + offsets
        self.seconds += time.perf_counter() - since
        return places

    def lookup(self, places: Sequence[Tensor], *, training: bool) -> list[Tensor]:
        """Vectors of fused places; with sharded vocabularies all ranks look up together.

        Args:
            places: Integer tensors of any shape.
            training: Whether the gradient of the looked-up rows is wanted.

        Returns:
            For each, its vectors with a last dimension D.
        """
        return [vectors for (vectors,) in self.lookup_columns(places, [self.dim], training=training)]

    def lookup_columns(
        self, places: Sequence[Tensor], widths: Sequence[int], *, training: bool
    ) -> list[tuple[Tensor, ...]]:
        """`lookup`, whose vectors come in blocks of so many columns, which sum to D, each a tensor of its own."""
        since = time.perf_counter()
        counts = [part.numel() for part in places]
        flat = torch.cat([part.reshape(-1) for part in places])
        if training:
            groups = distinct(flat)
            leaf = self.layout.fetch(self.weight, groups.rows).requires_grad_()
            self._touched = (groups.rows, leaf)
            blocks = groups.expand(leaf, counts, widths)
        else:
            vectors = self._look(flat)
            blocks = [part.split(list(widths), -1) for part in vectors.split(counts)]
        self.seconds += time.perf_counter() - since
        return [
            tuple(block.view(*place.shape, block.shape[-1]) for block in part)
            for part, place in zip(blocks, places, strict=True)
        ]

    def _look(self, places: Tensor) -> Tensor:
        """Vectors `(N, D)` without a gradient."""
        if self.layout.sharded:
            groups = distinct(places)
            return take_rows(self.layout.fetch(self.weight, groups.rows), groups.inverse)
        return take_rows(self.weight, places)

    def touched_gradients(self) -> tuple[Tensor, Tensor]:
        """Fused rows of the last training look-up, `(U,)` ascending, and their gradients `(U, D)`.

        Padding rows are left out: they stay zero.

        Raises:
            TrainingError: Nothing was looked up for training.
        """
        if self._touched is None:
            raise TrainingError(
                "no rows were looked up for training", hint="call the model in training mode, then backward, then this"
            )
        places, leaf = self._touched
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for name, left_out in self.dims.items():
            first = self.offsets[name]
            # Fused places of a vocabulary lie together, and those touched are in order.
            own = slice(*torch.searchsorted(places, places.new_tensor([first, first + self.rows[name]])).tolist())
            gradient[own, slice(*left_out)] = 0.0
        at = torch.searchsorted(places, self._padding).clamp_(max=max(len(places) - 1, 0))
        at = at[places[at] == self._padding] if len(places) else at[:0]
        if not len(at):
            return places, gradient
        learns = torch.ones(len(places), dtype=torch.bool, device=places.device)
        learns[at] = False
        keep = learns.nonzero().squeeze(1)
        return places.index_select(0, keep), gradient.index_select(0, keep)
