"""The tensors of some rows, as every model and the trainer take them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch
from torch import Tensor

History = dict[str, tuple[Tensor, Tensor]]


@dataclass
class Batch:
    """Rows of a samples table; a batch may have none.

    Attributes:
        ids: `(B, F)` int64, columns in the order of `FeatureSet.id_fields`.
        numbers: `(B, N)` float32, columns in the order of `FeatureSet.number_fields`.
        sequences: `(B, T)` int64 for each sequence, most recent first, 0-padded at the end; T is that of the longest one
            in the batch.
        label: `(B,)` float32, 0 or 1.
        weight: `(B,)` float32, what a row counts in the loss.
        day: `(B,)` int64, days since 1970-01-01.
        event_id: Names of the rows, where asked for.
        user: Raw user ids, where asked for.
        history: For "user" and "item": `(B, K, D)` float32 vectors of K snapshots, newest first, and `(B, K)` bool,
            which of them know the id. Empty when unused.
        domain: `(B,)` int64, number of each row's domain in `DOMAINS`; None: all are ads.
    """

    ids: Tensor
    numbers: Tensor
    sequences: dict[str, Tensor]
    label: Tensor
    weight: Tensor
    day: Tensor
    event_id: list[str] | None = None
    user: list[str] | None = None
    history: History = field(default_factory=dict)
    domain: Tensor | None = None

    def __len__(self) -> int:
        return self.label.shape[0]

    @property
    def rows(self) -> int:
        """Rows of this batch."""
        return len(self)

    def to(self, device: torch.device | str) -> "Batch":
        """The same rows on a device; names stay where they are."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def slice(self, start: int, stop: int) -> "Batch":
        """Rows `[start, stop)`, sharing memory with this batch."""
        part = self._each(lambda tensor: tensor[start:stop])
        part.event_id = self.event_id[start:stop] if self.event_id is not None else None
        part.user = self.user[start:stop] if self.user is not None else None
        return part

    def take(self, index: Tensor) -> "Batch":
        """The rows at `index`, `(B',)` int64, in its order."""
        part = self._each(lambda tensor: tensor[index])
        places = index.tolist() if self.event_id is not None or self.user is not None else []
        part.event_id = [self.event_id[place] for place in places] if self.event_id is not None else None
        part.user = [self.user[place] for place in places] if self.user is not None else None
        return part

    @staticmethod
    def concat(batches: Sequence["Batch"]) -> "Batch":
        """Rows of several batches of one feature set, in order; at least one batch."""
        first = batches[0]
        if len(batches) == 1:
            return first

        def names(of: Callable[[Batch], list[str] | None]) -> list[str] | None:
            lists = [of(batch) for batch in batches]
            return None if lists[0] is None else [name for part in lists for name in part or ()]

        return Batch(
            ids=torch.cat([batch.ids for batch in batches]),
            numbers=torch.cat([batch.numbers for batch in batches]),
            sequences={key: torch.cat([batch.sequences[key] for batch in batches]) for key in first.sequences},
            label=torch.cat([batch.label for batch in batches]),
            weight=torch.cat([batch.weight for batch in batches]),
            day=torch.cat([batch.day for batch in batches]),
            event_id=names(lambda batch: batch.event_id),
            user=names(lambda batch: batch.user),
            history={
                key: (
                    torch.cat([batch.history[key][0] for batch in batches]),
                    torch.cat([batch.history[key][1] for batch in batches]),
                )
                for key in first.history
            },
            domain=None if first.domain is None else torch.cat([d for b in batches if (d := b.domain) is not None]),
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(
            ids=change(self.ids),
            numbers=change(self.numbers),
            sequences={name: change(tensor) for name, tensor in self.sequences.items()},
            label=change(self.label),
            weight=change(self.weight),
            day=change(self.day),
            event_id=self.event_id,
            user=self.user,
            history={name: (change(vectors), change(mask)) for name, (vectors, mask) in self.history.items()},
            domain=None if self.domain is None else change(self.domain),
        )
