"""A published version as whoever scores with it holds it: the model, the snapshots it reads, the ids that had expired."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.models.base import CTRModel
from ecdctr.models.full import FullModel
from ecdctr.training.expiry import Expired
from ecdctr.training.structure import Structure
from ecdctr.training.versions import load_version
from ecdctr.transfer.autoft import AutoFT
from ecdctr.transfer.snapshots import HistoricalEmbeddings


@dataclass(frozen=True)
class Published:
    """A version with its parameters, in evaluation."""

    model: CTRModel
    features: FeatureSet
    history: HistoricalEmbeddings | None
    expired: Expired

    def finish(self, batch: Batch) -> Batch:
        """Rows as the model reads them: with historical embeddings, expired ids as their buckets."""
        batch = batch if self.history is None else self.history.attach(batch)
        # After the historical vectors, which stay those of the ids.
        return self.expired.hide(batch)

    @torch.no_grad()
    def probabilities(self, batch: Batch) -> NDArray[np.float64]:
        """Click probabilities `(B,)` of ads, as the walk that published the version would have scored them."""
        found: NDArray[np.float64] = torch.sigmoid(self.model(self.finish(batch)).double()).numpy()
        return found

    @torch.no_grad()
    def aggregated(self, entity: str, ids: Tensor, day: int) -> tuple[Tensor, Tensor]:
        """Historical embeddings as the interaction layer reads them.

        Args:
            entity: `user` or `item`.
            ids: `(n,)`.
            day: Day of the requests, days since 1970.

        Returns:
            `(n, D)`, of AutoFT `(n, 2·D)`: the tuned way's beside the frozen one's; and which ids `(n,)` have a history.
            The others share one vector.
        """
        assert self.history is not None
        snapshots, present = self.history.find(entity, ids, torch.full_like(ids, day))
        ways = [self.model.tuned, self.model.frozen] if isinstance(self.model, AutoFT) else [self.model]
        made = [way.historical(entity, snapshots, present) for way in ways if isinstance(way, FullModel)]
        return torch.cat(made, 1), present.any(1)


def open_version(folder: Path, store: Path, place: Callable[[CTRModel], object] = lambda model: None) -> Published:
    """A version from its folder in the artifact store.

    Args:
        folder: Of the version.
        store: Of all versions.
        place: Brings the model to where it is to be, before it takes memory.

    Raises:
        IntegrityError: It does not say how it is built, or a snapshot is missing.
    """
    structure = Structure.read(folder)
    model = structure.build()
    place(model)
    load_version(model, folder)
    features = structure.feature_set()
    return Published(model.eval(), features, structure.embeddings(store), Expired.of_version(folder, features))


@functools.lru_cache(maxsize=1)
def opened(folder: str, store: str) -> Published:
    """`open_version`; of several in turn, a process holds the last one."""
    return open_version(Path(folder), Path(store))
