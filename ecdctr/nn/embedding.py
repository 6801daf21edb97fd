"""All embedding tables of a model as one fused matrix, of which a step touches only the rows of its batch."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ecdctr.exceptions import TrainingError
from ecdctr.features.encoding import FIRST_BUCKET, PADDING, first_token_id
from ecdctr.nn.distinct import distinct, take_rows

INIT_STD = 0.01
INIT_BLOCK = 65536


class EmbeddingTables:
    """The rows of every vocabulary in one float32 matrix.

    Autograd never sees the matrix: a training look-up takes the batch's distinct rows out as a leaf, whose gradient is
    then already merged by row. So a step costs what its batch costs, whatever the size of the vocabularies.

    Args:
        rows: Known rows of each vocabulary; an id beyond them is read as its out-of-vocabulary bucket.
        oov_buckets: Out-of-vocabulary buckets of each vocabulary.
        dim: Length of a vector, D.
        seed: Of the initial values (normal, standard deviation 0.01), which depend on seed, vocabulary and row alone:
            a table that has grown has the same first rows.

    Raises:
        TrainingError: A vocabulary with fewer rows than padding, missing and its buckets take.
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
        ends = np.cumsum(list(self.rows.values()))
        self.offsets = {name: int(end) - self.rows[name] for name, end in zip(self.rows, ends, strict=True)}
        self.weight = torch.empty(int(ends[-1]), dim)
        for name in self.rows:
            self._initialise(name)
        self._padding = torch.tensor(list(self.offsets.values())) + PADDING
        self._columns: dict[tuple[str, ...], tuple[Tensor, ...]] = {}
        self._touched: tuple[Tensor, Tensor] | None = None

    def _initialise(self, name: str) -> None:
        table = self.table(name)
        for block, start in enumerate(range(0, len(table), INIT_BLOCK)):
            key = [self.seed, *name.encode(), block]
            part = table[start : start + INIT_BLOCK]
            # Rows are drawn one after another, so a block that is not full yet has the first rows of the full one.
            values = np.random.default_rng(key).standard_normal(tuple(part.shape), dtype=np.float32)
            part.copy_(torch.from_numpy(values)).mul_(INIT_STD)
        table[PADDING] = 0.0

    def table(self, name: str) -> Tensor:
        """View of one vocabulary's rows, `(rows, D)`."""
        start = self.offsets[name]
        return self.weight[start : start + self.rows[name]]

    def tables(self) -> dict[str, Tensor]:
        """Views of all vocabularies."""
        return self.split(self.weight)

    def split(self, whole: Tensor) -> dict[str, Tensor]:
        """Views by vocabulary of something that has one entry per fused row."""
        return dict(zip(self.rows, whole.split(list(self.rows.values())), strict=True))

    def load_table(self, name: str, values: Tensor) -> int:
        """Take over the first rows of a vocabulary.

        Args:
            name: The vocabulary.
            values: `(rows given, D)`, at most as many as the table has.

        Returns:
            How many rows the table has beyond them; they keep their fresh values.

        Raises:
            TrainingError: No such vocabulary, another D, or more rows than the table has.
        """
        if name not in self.rows:
            raise TrainingError(f"no table {name!r}; the model has {', '.join(self.rows)}")
        table = self.table(name)
        if values.ndim != 2 or values.shape[1] != self.dim or len(values) > len(table):
            raise TrainingError(
                f"table {name!r} is {tuple(table.shape)}, found {tuple(values.shape)}; it may only grow",
                hint="give the model at least the rows of what it is loaded from, and the same embedding_dim",
            )
        table[: len(values)] = values
        return len(table) - len(values)

    def places(self, ids: Tensor, *vocabularies: str) -> Tensor:
        """Rows of the fused matrix; an id beyond a vocabulary's known rows is read as its bucket.

        Args:
            ids: `(…, F)` with one vocabulary per column, or any shape with one vocabulary for all.
            vocabularies: Their names.
        """
        if vocabularies not in self._columns:
            named = ((self.rows[name], self.oov_buckets[name], self.offsets[name]) for name in vocabularies)
            self._columns[vocabularies] = torch.tensor(list(named)).unbind(1)
        rows, buckets, offsets = self._columns[vocabularies]
        late = ids >= rows
        if late.any():
            # Equal to encoding.bucket_id: the first token's id is FIRST_BUCKET + buckets, of the same class.
            ids = torch.where(late, FIRST_BUCKET + (ids - FIRST_BUCKET) % buckets, ids)
        return ids + offsets

    def lookup(self, places: Sequence[Tensor], *, training: bool) -> list[Tensor]:
        """Vectors of fused places.

        Args:
            places: Integer tensors of any shape.
            training: Whether the gradient of the looked-up rows is wanted.

        Returns:
            For each, its vectors with a last dimension D.
        """
        flat = torch.cat([part.reshape(-1) for part in places])
        if training:
            groups = distinct(flat)
            leaf = take_rows(self.weight, groups.rows).requires_grad_()
            self._touched = (groups.rows, leaf)
            vectors = groups.expand(leaf)
        else:
            vectors = take_rows(self.weight, flat)
        split = vectors.split([part.numel() for part in places])
        return [part.view(*place.shape, self.dim) for part, place in zip(split, places, strict=True)]

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
        at = torch.searchsorted(places, self._padding).clamp_(max=max(len(places) - 1, 0))
        at = at[places[at] == self._padding] if len(places) else at[:0]
        if not len(at):
            return places, gradient
        learns = torch.ones(len(places), dtype=torch.bool)
        learns[at] = False
        keep = learns.nonzero().squeeze(1)
        return places.index_select(0, keep), gradient.index_select(0, keep)
