"""Rows of `tpm_embeddings`: the vectors of trained ids, whatever share of the ids that is."""

import datetime as dt

import numpy as np
import pytest

from ecdctr.lake.tables import Lake
from ecdctr.scoring.snapshots import append_snapshot

pytestmark = pytest.mark.spark

DAY = dt.date(2024, 1, 1)
TRAINED = {"user": np.array([3, 19_999]), "item": np.array([], dtype=np.int64)}


def test_ids_without_a_vector_leave_no_row_nor_do_batches_that_hold_no_other(spark, tmp_path):
    vectors = {entity: np.arange(60_000, dtype=np.float32).reshape(-1, 3) for entity in TRAINED}
    for entity, ids in TRAINED.items():
        np.save(tmp_path / f"{entity}.npy", vectors[entity])
        np.save(tmp_path / f"{entity}_present.npy", np.isin(np.arange(20_000), ids))
    lake = Lake(spark, tmp_path / "warehouse")
    for _ in range(2):
        append_snapshot(lake, tmp_path, "tpm-1", DAY)
    rows = sorted(lake.read("tpm_embeddings").collect(), key=lambda row: row.id)
    assert [(row.entity, row.id, row.snapshot, row.model_version) for row in rows] == [
        ("user", number, DAY, "tpm-1") for number in TRAINED["user"]
    ]
    assert [row.vector for row in rows] == vectors["user"][TRAINED["user"]].tolist()
