"""Rows as Spark hands them to a scoring worker: the same tensors that the reader of samples makes of the same columns."""

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ecdctr.data.reader import iterate
from ecdctr.data.shard_plan import FileRows, plan_lanes
from ecdctr.pipelines import score
from ecdctr.scoring.batch_scores import batch_of
from tests.unit.test_model_lists import FEATURES

pytestmark = pytest.mark.unit


def test_jobs_that_write_one_local_output_take_turns(tmp_path, monkeypatch):
    order = []

    def write(name, out, begun, wait):
        with score._turn(tmp_path / "warehouse", out):
            begun.set()
            order.append(f"{name} begins")
            wait.wait(20)
            order.append(f"{name} ends")

    begun, go, other = threading.Event(), threading.Event(), threading.Event()
    other.set()
    monkeypatch.chdir(tmp_path)
    first = threading.Thread(target=write, args=("first", "runs/scores", begun, go))
    first.start()
    assert begun.wait(20)
    # The same folder by another name; then another folder, and another file system.
    second = threading.Thread(
        target=write, args=("second", str(tmp_path / "runs" / "x" / ".." / "scores"), threading.Event(), other)
    )
    second.start()
    for elsewhere in ("runs/others", "s3a://bucket/scores"):
        write(elsewhere, elsewhere, threading.Event(), other)
    go.set()
    first.join(20)
    second.join(20)
    assert order == [
        "first begins", "runs/others begins", "runs/others ends", "s3a://bucket/scores begins", "s3a://bucket/scores ends",
        "first ends", "second begins", "second ends",
    ]  # fmt: skip


def encoded(rows: int, longest: int) -> pa.Table:
    generator = np.random.default_rng(5)
    columns = {name: generator.integers(1, 2**53, rows) for name in FEATURES.id_fields}
    lists = {}
    for name, length in FEATURES.sequence_fields.items():
        ids = generator.integers(1, 2**53, (rows, length))
        ids[:, longest:] = 0
        ids[np.arange(length) >= generator.integers(0, longest + 1, (rows, 1))] = 0
        lists[name] = pa.array(ids.tolist(), pa.list_(pa.int64()))
    fixed = {
        "event_id": [f"e{row}" for row in range(rows)], "user": ["u"] * rows, "label": np.zeros(rows, np.float32),
        "weight": np.ones(rows, np.float32), "day": pa.array([3] * rows, pa.int32()),
        "price": generator.standard_normal(rows).astype(np.float32),
    }  # fmt: skip
    return pa.table(fixed | columns | lists)


@pytest.mark.parametrize("longest", [0, 2, 3])
def test_a_batch_is_that_of_the_reader_whatever_slice_it_is_of(longest, tmp_path):
    table = encoded(30, longest)
    part = table.to_batches()[0].slice(7, 20)
    pq.write_table(pa.Table.from_batches([part]), tmp_path / "part.parquet")
    plan = plan_lanes([FileRows(str(tmp_path / "part.parquet"), 20)], lanes=1, seed=0, shuffle=False)
    (wanted,) = iterate(plan, 0, 1, FEATURES, 64)
    found = batch_of(part, FEATURES)
    for name in ("ids", "numbers", "label", "weight", "day"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    assert list(found.sequences) == list(wanted.sequences)
    for name, ids in wanted.sequences.items():
        assert torch.equal(found.sequences[name], ids), name
    assert found.sequences["clicked"].shape[1] == max(longest, 1)
