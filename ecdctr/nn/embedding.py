"""All embedding tables of a model as one fused matrix, of which a step touches only the rows of its batch."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ecdctr.features.encoding import FIRST_BUCKET, PADDING, first_token_id

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
    """

    def __init__(self, rows: Mapping[str, int], oov_buckets: Mapping[str, int], dim: int, seed: int) -> None:
        self.rows = dict(rows)
        self.oov_buckets = {name: oov_buckets[name] for name in rows}
        self.dim = dim
        self.seed = seed
        ends = np.cumsum(list(self.rows.values()))
        self.offsets = {name: int(end) - self.rows[name] for name, end in zip(self.rows, ends, strict=True)}
        self.weight = torch.empty(int(ends[-1]), dim)
        for name in self.rows:
            self._initialise(name)
        self._touched: tuple[Tensor, Tensor] | None = None

    def _initialise(self, name: str) -> None:
        table = self.table(name)
        for block, start in enumerate(range(0, len(table), INIT_BLOCK)):
            key = [self.seed, *name.encode(), block]
            values = np.random.default_rng(key).standard_normal((INIT_BLOCK, self.dim), dtype=np.float32)
            part = table[start : start + INIT_BLOCK]
            part.copy_(torch.from_numpy(values[: len(part)])).mul_(INIT_STD)
        table[PADDING] = 0.0

    def table(self, name: str) -> Tensor:
        """View of one vocabulary's rows, `(rows, D)`."""
        start = self.offsets[name]
        return self.weight[start : start + self.rows[name]]

    def tables(self) -> dict[str, Tensor]:
        """Views of all vocabularies."""
        return {name: self.table(name) for name in self.rows}

    def load_table(self, name: str, values: Tensor) -> int:
        """Take over the first rows of a vocabulary.

        Returns:
            How many rows the table has beyond them; they keep their fresh values.
        """
        table = self.table(name)
        table[: len(values)] = values
        return len(table) - len(values)

    def places(self, ids: Tensor, vocabulary: str) -> Tensor:
        """Rows of the fused matrix for the ids of one vocabulary."""
        rows, buckets = self.rows[vocabulary], self.oov_buckets[vocabulary]
        bucket = FIRST_BUCKET + (ids - first_token_id(buckets)) % buckets
        return torch.where(ids < rows, ids, bucket) + self.offsets[vocabulary]

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
            unique, inverse = torch.unique(flat, return_inverse=True)
            leaf = self.weight[unique].requires_grad_()
            self._touched = (unique, leaf)
            vectors = leaf[inverse]
        else:
            vectors = self.weight[flat]
        split = vectors.split([part.numel() for part in places])
        return [part.view(*place.shape, self.dim) for part, place in zip(split, places, strict=True)]

    def touched_gradients(self) -> tuple[Tensor, Tensor]:
        """Fused rows of the last training look-up, `(U,)` ascending, and their gradients `(U, D)`.

        Padding rows are left out: they stay zero.
        """
        assert self._touched is not None, "no training look-up yet"
        places, leaf = self._touched
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        padding = torch.tensor(list(self.offsets.values())) + PADDING
        keep = ~torch.isin(places, padding)
        return places[keep], gradient[keep]
