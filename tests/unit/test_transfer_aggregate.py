"""Embeddings aggregated once for serving are the ones a batch would compute; damaged snapshots are named."""

import numpy as np
import pytest
import torch

from ecdctr.exceptions import IntegrityError, TrainingError
from ecdctr.features import FeatureSet
from ecdctr.models.registry import build
from ecdctr.transfer.aggregate import aggregate
from ecdctr.transfer.snapshots import HistoricalEmbeddings, SnapshotFiles

pytestmark = pytest.mark.unit

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id"),
    number_fields=(),
    sequence_fields={},
    vocabulary_of={"user_id": "user_id", "item_id": "item_id"},
    fixed_rows={},
    oov_buckets={"user_id": 1, "item_id": 1},
    attention={},
)


def write(folder, rows: int, dim: int = 3, seed: int = 0):
    generator = np.random.default_rng([seed, rows])
    folder.mkdir()
    for entity in ("user", "item"):
        np.save(folder / f"{entity}.npy", generator.standard_normal((rows, dim)).astype(np.float32))
        np.save(folder / f"{entity}_present.npy", generator.random(rows) > 0.4)
    return folder


@pytest.fixture
def snapshots(tmp_path):
    return [SnapshotFiles(day, write(tmp_path / str(day), rows)) for day, rows in ((10, 9), (20, 14), (30, 21))]


@pytest.mark.parametrize("chunk", [5, 1000])
@pytest.mark.parametrize("day", [5, 25, 40])
def test_served_vectors_are_those_of_a_batch(snapshots, chunk, day):
    rows = {"user_id": 30, "item_id": 20}
    model = build("dcnv2", features=FEATURES, rows=rows, seed=5, history_dim=3, embedding_dim=4).eval()
    history = HistoricalEmbeddings(snapshots, 2, "as_of")
    parts = list(aggregate(model, history, "item", rows=25, day=day, chunk=chunk))
    assert [start for start, _ in parts] == list(range(0, 25, chunk))
    served = torch.cat([vectors for _, vectors in parts])
    ids = torch.tensor([24, 3, 17, 3, 0, 11])
    batch_wise = model.historical("item", *history.find("item", ids, torch.full_like(ids, day)))
    torch.testing.assert_close(served[ids], batch_wise)
    unknown = model.projection["item"](model.pooling["item"].unknown)
    torch.testing.assert_close(served[24], unknown)


@pytest.mark.parametrize("damage", ["missing", "truncated", "pickle", "dim", "rows"])
def test_a_damaged_snapshot_is_named(snapshots, damage):
    path = snapshots[1].folder / "item.npy"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "pickle":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        np.save(path, np.zeros((14, 4) if damage == "dim" else (13, 3), dtype=np.float32))
    with pytest.raises(IntegrityError, match="20"):
        HistoricalEmbeddings(snapshots, 2, "as_of")


def test_no_snapshots_at_all():
    with pytest.raises(TrainingError, match="no snapshots"):
        HistoricalEmbeddings([], 2, "as_of")
