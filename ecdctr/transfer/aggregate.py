"""Aggregated historical embeddings of every id, computed once so that an online request reads one vector each."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ecdctr.models.full import FullModel
from ecdctr.transfer.snapshots import HistoricalEmbeddings


@torch.no_grad()
def aggregate(
    model: FullModel, history: HistoricalEmbeddings, entity: str, rows: int, day: int, chunk: int = 65536
) -> Iterator[tuple[int, Tensor]]:
    """Field vectors of all ids as a batch of one day would give them.

    Args:
        model: The version that serves; its snapshot pooling and projection are applied.
        history: The snapshots that it reads.
        entity: `user` or `item`.
        rows: Ids 0 to rows - 1 are aggregated.
        day: Day of the requests, days since 1970.
        chunk: Ids held in memory at a time.

    Yields:
        The first id of a chunk, and the vectors `(n, D)` of n ids from it on; those that no snapshot knows share the
        learned vector of the unknown.
    """
    for start in range(0, rows, chunk):
        ids = torch.arange(start, min(start + chunk, rows))
        yield start, model.historical(entity, *history.find(entity, ids, torch.full_like(ids, day)))
