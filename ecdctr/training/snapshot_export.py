"""The embeddings that a level publishes as a snapshot for the levels after it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch
from torch import Tensor

from ecdctr.features.encoding import first_token_id
from ecdctr.training.task import LevelTask
from ecdctr.training.trainer import Trainer

CHUNK = 1 << 20
"""Rows that come to rank 0 at a time."""


def export_snapshot(task: LevelTask, trainer: Trainer, folder: Path | None) -> None:
    """Write vectors of users and items, and which of them any snapshot up to this one has trained, as NumPy files.

    Args:
        task: The level.
        trainer: After the last step; all ranks call this, since each may hold some of the rows.
        folder: Where the files are put, on rank 0; None on the others.
    """
    tables, features = trainer.model.tables, task.feature_set()
    trained = trainer.sparse.touched()
    # A first-order weight behind the vector is no part of it.
    dim = task.options["embedding_dim"]
    for entity, field in (("user", features.user_field), ("item", features.item_field)):
        name = features.vocabulary_of[field]
        rows = tables.rows[name]
        vectors = _file(folder, f"{entity}.npy", (rows, dim), np.float32)
        present = _file(folder, f"{entity}_present.npy", (rows,), np.bool_)
        tables.layout.gather(name, tables.table(name)[:, :dim], rows, _putter(vectors), CHUNK)
        tables.layout.gather(name, trained[name].to(torch.uint8), rows, _putter(present), CHUNK)
        if present is not None:
            # Padding, missing and shared buckets are nobody's history.
            present[: first_token_id(tables.oov_buckets[name])] = False


def _file(folder: Path | None, name: str, shape: tuple[int, ...], dtype: type) -> Any:
    if folder is None:
        return None
    return np.lib.format.open_memmap(folder / name, "w+", dtype, shape)


def _putter(array: Any) -> Any:
    def put(start: int, values: Tensor) -> None:
        if array is not None:
            array[start : start + len(values)] = values.cpu().numpy()

    return put
