"""CPM → A-CTR: batch norm changes as asked, nothing else does; snapshots are looked up as of a row's day."""

import numpy as np
import pytest
import torch

from ecdctr.exceptions import TrainingError
from ecdctr.features import FeatureSet
from ecdctr.models.registry import build
from ecdctr.transfer.parameter_map import warm_start
from ecdctr.transfer.snapshots import NOBODY, HistoricalEmbeddings, SnapshotFiles, somebody_else

pytestmark = pytest.mark.unit

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id", "hour"),
    number_fields=("price",),
    sequence_fields={"clicked": 5},
    vocabulary_of={"user_id": "user_id", "item_id": "item_id", "hour": "hour", "clicked": "item_id"},
    fixed_rows={"hour": 26},
    oov_buckets={"user_id": 1, "item_id": 1, "hour": 1},
    attention={"clicked": "item_id"},
)
ROWS = {"user_id": 30, "item_id": 20, "hour": 26}


def model(seed: int = 1, rows=ROWS, **options):
    return build("dcnv2", features=FEATURES, rows=rows, seed=seed, **options)


def trained_twin():
    twin = model(seed=2)
    with torch.no_grad():
        for name, tensor in twin.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape) + 0.1)
            assert name
    return twin


@pytest.mark.parametrize(
    ("batch_norm", "fresh"),
    [
        ("keep", set()),
        ("statistics", {"running_mean", "running_var", "num_batches_tracked"}),
        ("full", {"running_mean", "running_var", "num_batches_tracked", "weight", "bias"}),
    ],
)
def test_reinitialisation_changes_batch_norm_and_nothing_else(batch_norm, fresh):
    twin, target = trained_twin(), model()
    report = warm_start(target, twin.network_state(), twin.tables.tables(), batch_norm)
    norms = {name for name, module in target.named_modules() if type(module).__name__ == "DistributedBatchNorm"}
    expected = {f"{norm}.{part}" for norm in norms for part in fresh}
    assert set(report.reinitialised) == expected
    for name, tensor in target.network_state().items():
        if name not in expected:
            assert torch.equal(tensor, twin.network_state()[name]), name
    for name in expected:
        value = 1.0 if name.endswith(("running_var", "weight")) else 0.0
        assert (target.network_state()[name] == value).all(), name
    for name, table in twin.tables.tables().items():
        assert torch.equal(target.tables.table(name), table)


def test_a_grown_vocabulary_keeps_the_twin_s_rows():
    twin, target = trained_twin(), model(rows=ROWS | {"item_id": 25})
    report = warm_start(target, twin.network_state(), twin.tables.tables(), "full")
    assert report.grown == ["tables.item_id"]
    assert torch.equal(target.tables.table("item_id")[:20], twin.tables.table("item_id"))


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "shrunk"])
def test_what_does_not_fit_is_named(change):
    twin = trained_twin()
    network, tables = twin.network_state(), twin.tables.tables()
    if change == "missing":
        name = "mlp.layers.0.weight"
        del network[name]
    elif change == "unexpected":
        name = "extra.weight"
        network[name] = torch.zeros(1)
    elif change == "shape":
        name = "mlp.layers.1.bias"
        network[name] = torch.zeros(3)
    else:
        name = "item_id"
        tables[name] = torch.zeros(99, 16)
    with pytest.raises(TrainingError, match=name.replace(".", r"\.")):
        warm_start(model(), network, tables, "full")


@pytest.fixture
def history(tmp_path):
    """Three snapshots that end at days 10, 20, 30; the vector of id i in snapshot s is s + i / 100."""
    files = []
    for number, until in enumerate((10, 20, 30), start=1):
        folder = tmp_path / str(until)
        folder.mkdir()
        for entity in ("user", "item"):
            rows = 5 + number
            np.save(folder / f"{entity}.npy", np.repeat((number + np.arange(rows) / 100)[:, None], 2, 1).astype("f4"))
            present = np.ones(rows, dtype=bool)
            present[3] = False
            np.save(folder / f"{entity}_present.npy", present)
        files.append(SnapshotFiles(until, folder))
    return files


def test_a_row_sees_only_snapshots_that_ended_by_its_day(history):
    vectors, mask = HistoricalEmbeddings(history, 2, "as_of").find(
        "user", torch.tensor([4, 4, 4, 4, 4]), torch.tensor([9, 10, 20, 29, 40])
    )
    assert mask.tolist() == [[False, False], [True, False], [True, True], [True, True], [True, True]]
    np.testing.assert_allclose(
        vectors[:, :, 0], [[0, 0], [1.04, 0], [2.04, 1.04], [2.04, 1.04], [3.04, 2.04]], rtol=1e-6
    )


def test_absent_and_later_ids_are_masked(history):
    _, mask = HistoricalEmbeddings(history, 3, "as_of").find(
        "item", torch.tensor([3, 6, 7, 2**40]), torch.full((4,), 35)
    )
    assert mask.tolist() == [[False] * 3, [True, True, False], [True, False, False], [False] * 3]


def test_latest_looks_past_the_row_s_day(history):
    _, mask = HistoricalEmbeddings(history, 3, "latest").find("item", torch.tensor([1]), torch.tensor([0]))
    assert mask.tolist() == [[True, True, True]]


def test_snapshots_are_mapped_from_their_files_and_never_read_whole(history):
    embeddings = HistoricalEmbeddings(history, 2, "as_of")
    for entity in ("user", "item"):
        for array, files in zip(embeddings.vectors[entity], history, strict=True):
            assert isinstance(array, np.memmap)
            assert array.mode == "r"
            assert str(array.filename) == str(files.folder / f"{entity}.npy")
        assert all(isinstance(array, np.memmap) for array in embeddings.present[entity])
        assert embeddings.rows(entity) == 8
    _, mask = embeddings.find("user", torch.tensor([7, 8]), torch.tensor([35, 35]))
    assert mask.any(1).tolist() == [True, False]


def test_shuffled_embeddings_are_those_of_somebody_else(history):
    own = HistoricalEmbeddings(history, 3, "as_of")
    control = HistoricalEmbeddings(history, 3, "as_of", shuffle_seed=5)
    ids = torch.tensor([0, 1, 2, 4, 5])
    days = torch.full_like(ids, 35)
    for entity in ("user", "item"):
        true, present = own.find(entity, ids, days)
        other, mask = control.find(entity, ids, days)
        assert torch.equal(present, mask)
        # Nobody keeps a vector, and all vectors are still there: row by row the same ones in another order.
        assert not (true == other).all(-1)[present].any()
        for snapshot in range(3):
            assert sorted(true[:, snapshot, 0].tolist()) == pytest.approx(sorted(other[:, snapshot, 0].tolist()))
        # One partner through all snapshots: the vector of id i in snapshot s is s + i / 100.
        hundredths = ((other[..., 0] * 100).round() % 100).int()
        assert (hundredths == hundredths[:, :1]).all()


def test_vectors_of_one_entity_alone_leave_the_other_unknown(history):
    items = HistoricalEmbeddings(history, 3, "as_of", entities=["item"])
    ids, days = torch.tensor([1, 2]), torch.tensor([31, 31])
    vectors, mask = items.find("user", ids, days)
    assert not vectors.any()
    assert not mask.any()
    for found, expected in zip(
        items.find("item", ids, days), HistoricalEmbeddings(history, 3, "as_of").find("item", ids, days), strict=True
    ):
        assert torch.equal(found, expected)


def test_unit_length_keeps_directions_and_absence(history):
    ids, days = torch.tensor([1, 2, 1000]), torch.tensor([31, 11, 31])
    whole, mask = HistoricalEmbeddings(history, 3, "as_of").find("user", ids, days)
    unit, same = HistoricalEmbeddings(history, 3, "as_of", unit_length=True).find("user", ids, days)
    assert torch.equal(mask, same)
    torch.testing.assert_close(unit.norm(dim=2), mask.float())
    torch.testing.assert_close(unit * whole.norm(dim=2, keepdim=True), whole)


def test_a_later_snapshot_changes_nobody_s_partner(tmp_path):
    generator = np.random.default_rng(1)
    known = [generator.random(rows) < 0.6 for rows in (40, 60, 90)]
    early, late = somebody_else(known[:2], [3]), somebody_else(known, [3])
    seen = known[1].copy()
    seen[:40] |= known[0]
    assert (early[seen] == late[:60][seen]).all()
    assert (early != np.arange(60))[seen].all()
    for block in (np.flatnonzero(known[0]), np.flatnonzero(seen & ~np.pad(known[0], (0, 20)))):
        assert sorted(late[block]) == block.tolist()
    assert (somebody_else(known, [4]) != late).any()


def test_who_is_alone_in_a_snapshot_has_no_partner():
    assert somebody_else([np.array([False, False, False, True])], [1]).tolist() == [NOBODY] * 4


def test_concatenated_snapshots_begin_as_their_mean():
    full = model(history_dim=16, snapshot_pooling="concat", history_count=3)
    snapshots = torch.randn(4, 3, 16)
    everywhere = torch.ones(4, 3, dtype=torch.bool)
    torch.testing.assert_close(full.historical("user", snapshots, everywhere), snapshots.mean(1))
