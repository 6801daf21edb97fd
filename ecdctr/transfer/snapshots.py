"""Historical embeddings: snapshots of TPM's tables, read memory-mapped, looked up as of a row's day."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecdctr.config.schema import SnapshotLookup
from ecdctr.exceptions import IntegrityError, TrainingError

ENTITIES = ("user", "item")
NOBODY = 0
"""The padding id, which no snapshot knows."""


@dataclass(frozen=True)
class SnapshotFiles:
    """Where one snapshot lies, and the first day (since 1970) that it has not seen."""

    until_day: int
    folder: Path


class HistoricalEmbeddings:
    """Vectors of users and items in the newest snapshots that a row may see.

    Args:
        snapshots: All snapshots that may be looked up.
        count: K, how many a row gets, newest first.
        lookup: `as_of`: only snapshots that ended by the row's day, so that none has seen the row's own label;
            `latest`: the newest ones whatever the row's day.
        shuffle_seed: Where given, every id gets the vectors of another one: the control of a comparison.
        entities: Whose vectors are found; those of the others are as unknown as an id that no snapshot has.
        unit_length: Whether each vector is divided by its length. Vectors grow with the rows that trained them, so that
            those of a frequent id, and of a later snapshot, are longer than what the consumer saw in training.

    Raises:
        IntegrityError: A snapshot's file is missing, damaged, or of another shape than the others.
        TrainingError: No snapshots.
    """

    def __init__(
        self,
        snapshots: Sequence[SnapshotFiles],
        count: int,
        lookup: SnapshotLookup,
        shuffle_seed: int | None = None,
        *,
        entities: Collection[str] = ENTITIES,
        unit_length: bool = False,
    ) -> None:
        self.entities, self.unit_length = frozenset(entities), unit_length
        ordered = sorted(snapshots, key=lambda snapshot: snapshot.until_day)
        self.count, self.lookup = count, lookup
        self.until = np.array([snapshot.until_day for snapshot in ordered], dtype=np.int64)
        if not ordered:
            raise TrainingError("no snapshots of historical embeddings", hint="train a TPM version first, or read none")
        self.vectors = {e: [_mapped(s.folder / f"{e}.npy") for s in ordered] for e in ENTITIES}
        self.present = {e: [_mapped(s.folder / f"{e}_present.npy") for s in ordered] for e in ENTITIES}
        self.dim = int(self.vectors["user"][0].shape[1])
        for entity in ENTITIES:
            for snapshot, vectors, present in zip(ordered, self.vectors[entity], self.present[entity], strict=True):
                if vectors.shape != (len(present), self.dim):
                    raise IntegrityError(
                        f"{entity} vectors of {snapshot.folder} are {vectors.shape}, expected {(len(present), self.dim)}",
                        hint="snapshots that are read together must share TPM's embedding_dim",
                    )
        self.others: dict[str, NDArray[np.int64]] = {}
        if shuffle_seed is not None:
            self.others = {
                entity: somebody_else(self.present[entity], [shuffle_seed, place])
                for place, entity in enumerate(ENTITIES)
            }

    def rows(self, entity: str) -> int:
        """The first id that no snapshot knows, nor any beyond it."""
        return max(len(present) for present in self.present[entity])

    def find(self, entity: str, ids: Tensor, days: Tensor) -> tuple[Tensor, Tensor]:
        """Look up one entity.

        Args:
            entity: `user` or `item`.
            ids: `(B,)`.
            days: `(B,)`, days since 1970.

        Returns:
            Vectors `(B, K, D)`, zero where absent, and presence `(B, K)`.
        """
        places: NDArray[np.int64] = ids.numpy()
        if entity in self.others:
            others = self.others[entity]
            places = np.where(places < len(others), others[np.minimum(places, len(others) - 1)], NOBODY)
        seen = np.searchsorted(self.until, days.numpy(), side="right")
        if self.lookup == "latest":
            seen = np.full_like(seen, len(self.until))
        found = np.zeros((len(places), self.count, self.dim), dtype=np.float32)
        mask = np.zeros((len(places), self.count), dtype=bool)
        if entity not in self.entities:
            return torch.from_numpy(found), torch.from_numpy(mask)
        for snapshot in range(len(self.until)):
            # A row that sees n snapshots has the newest of them, number n - 1, at place 0.
            at = seen - 1 - snapshot
            rows = np.flatnonzero((at >= 0) & (at < self.count))
            known = rows[places[rows] < len(self.present[entity][snapshot])]
            known = known[self.present[entity][snapshot][places[known]]]
            found[known, at[known]] = self.vectors[entity][snapshot][places[known]]
            mask[known, at[known]] = True
        if self.unit_length:
            found /= np.maximum(np.linalg.norm(found, axis=2, keepdims=True), np.finfo(np.float32).tiny)
        return torch.from_numpy(found), torch.from_numpy(mask)

    def attach(self, batch: Any, user_column: int = 0, item_column: int = 1) -> Any:
        """Give a batch the historical vectors of its users and items."""
        columns = {"user": user_column, "item": item_column}
        batch.history = {e: self.find(e, batch.ids[:, at].contiguous(), batch.day) for e, at in columns.items()}
        return batch


def somebody_else(present: Sequence[NDArray[np.bool_]], seed: Sequence[int]) -> NDArray[np.int64]:
    """For every id another one that first appeared in the same snapshot.

    Ids change places among those that one snapshot brought, in one random cycle, so that none keeps its own. A later
    snapshot thereby changes nobody's partner: CPM and the A-CTR that goes on from it read one and the same control.

    Args:
        present: Which ids each snapshot knows, `(rows,)` each, oldest snapshot first.
        seed: Of the cycles.

    Returns:
        `(rows,)` of the largest snapshot; `NOBODY` for an id that no snapshot knows or that is alone in its own.
    """
    partner = np.full(max(len(known) for known in present), NOBODY, dtype=np.int64)
    seen = np.zeros(len(partner), dtype=bool)
    for number, known in enumerate(present):
        fresh = np.flatnonzero(known & ~seen[: len(known)])
        seen[fresh] = True
        if len(fresh) > 1:
            cycle = np.random.default_rng([*seed, number]).permutation(fresh)
            partner[cycle] = np.roll(cycle, 1)
    return partner


def _mapped(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"snapshot file {path} cannot be read: {error}", hint="restore it, or train that TPM version again"
        ) from error
    return array
