"""Row-wise sharding between real ranks: the same parameters, versions and scores as replicated tables, bit for bit."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ecdctr.config.schema import AutoftConfig
from ecdctr.config.training import TablesConfig, TrainingConfig
from ecdctr.distributed.launch import RankSession
from ecdctr.distributed.single import SingleProcess
from ecdctr.distributed.tasks import Signals
from ecdctr.exceptions import ConfigError
from ecdctr.features import FeatureSet
from ecdctr.nn.stored_rows import StoredRows
from ecdctr.training.level import train_level
from ecdctr.training.task import Files, FineTune, LevelTask, Start
from ecdctr.training.versions import FROZEN_TABLES, NETWORK, OPTIMIZER, TABLES, read_tensors

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(240)]

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id"),
    number_fields=("price",),
    sequence_fields={},
    vocabulary_of={"user_id": "user_id", "item_id": "item_id"},
    fixed_rows={},
    oov_buckets={"user_id": 1, "item_id": 1},
    attention={},
)
ROWS = {"user_id": 301, "item_id": 52}


def samples(folder: Path, day: int, rows: int = 300) -> Files:
    rng = np.random.default_rng(day)
    item = rng.integers(2, 60, rows)
    table = pa.table(
        {
            "event_id": [f"{day}-{at}" for at in range(rows)],
            "user": [f"u{at}" for at in range(rows)],
            "day": pa.array(np.full(rows, day), pa.int32()),
            "label": pa.array((item % 3 == 0) & (rng.random(rows) < 0.7), pa.float32()),
            "weight": pa.array(np.ones(rows), pa.float32()),
            "user_id": pa.array(rng.integers(2, 320, rows)),
            "item_id": pa.array(item),
            "price": pa.array(rng.standard_normal(rows), pa.float32()),
        }
    )
    files = []
    for lane in range(4):
        path = folder / f"{day}-{lane}.parquet"
        part = table.slice(lane * rows // 4, rows // 4)
        pq.write_table(part, path)
        files.append((str(path), len(part)))
    return Files(table="ad_samples", version=1, files=files)


def level(root: Path, version: str, day: int, start: Start, exchange: str, **further) -> LevelTask:
    data = root / "data"
    data.mkdir(exist_ok=True)
    training = {"batch_size": 48, "checkpoint_steps": 3, "tables": TablesConfig(exchange=exchange)}
    settings = {
        "ranks": 2, "rows": ROWS, "training": TrainingConfig(**training | further.pop("training", {})),
        "backbone": "deepfm", "options": {"hidden_units": [8], "embedding_dim": 4},
    }  # fmt: skip
    return LevelTask(
        version=version, level="actr", arm="x", features=dict(FEATURES.__dict__), seed=3, lanes=4, start=start,
        train=[samples(data, day)], score=samples(data, day + 1), score_dir=str(root / "scores" / version),
        store=str(root / "store"), checkpoints=str(root / "checkpoints" / version), **settings | further,
    )  # fmt: skip


def parameters(root: Path, version: str) -> dict[str, torch.Tensor]:
    folder = root / "store" / version
    found = {}
    for file in (NETWORK, TABLES, OPTIMIZER, FROZEN_TABLES):
        if (folder / file).exists():
            for name, values in read_tensors(folder, file).items():
                if isinstance(values, StoredRows):
                    values.fill(whole := torch.empty(values.shape), 0, 1)
                found[f"{file}.{name}"] = whole if isinstance(values, StoredRows) else values
    return found


def scores(root: Path, version: str) -> pa.Table:
    parts = sorted((root / "scores" / version).glob("rank-*/scores.parquet"))
    return pa.concat_tables([pq.read_table(part) for part in parts]).sort_by("event_id")


def start(root: Path, kind: str, version: str, **settings) -> Start:
    return Start(kind=kind, artifact=str(root / "store" / version), version=version, digest="x", **settings)


def assert_same(root: Path, one: str, other: str) -> None:
    left, right = parameters(root, one), parameters(root, other)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name
    assert scores(root, one).equals(scores(root, other))
    for array in (root / "store" / one).glob("*.npy"):
        assert np.array_equal(np.load(array), np.load(root / "store" / other / array.name)), array.name


def days(root: Path, exchange: str):
    """A CPM version, AutoFT from it, and the next day with a grown vocabulary, each with its name."""
    cpm, first, second = (f"{exchange}-{name}" for name in ("cpm", "day1", "day2"))
    tune = FineTune(kind="autoft", settings=AutoftConfig(temperature_steps=10))
    yield level(root, cpm, 0, Start(kind="scratch"), exchange, export_snapshot=True)
    yield level(root, first, 1, start(root, "warm", cpm, batch_norm="full", log_odds=-1.0), exchange, fine_tune=tune)
    grown = ROWS | {"item_id": 57}
    yield level(root, second, 2, start(root, "continue", first), exchange, fine_tune=tune, rows=grown)


def test_cpm_warm_start_autoft_and_growth_are_those_of_replicated_tables(tmp_path):
    with RankSession(None, 2, tmp_path / "mailbox", threads_per_rank=1) as session:
        for exchange in ("replicated", "row_wise"):
            for task in days(tmp_path, exchange):
                records = session.call("train_level", task.model_dump(mode="json"))
                held = sum(-(-rows // 2) for rows in task.rows.values()) * 4 * 6
                if task.fine_tune is None:
                    expected = held if exchange == "row_wise" else sum(task.rows.values()) * 4 * 6
                    assert {record["table_bytes"] for record in records} == {expected}
        limited = level(
            tmp_path, "limited", 0, Start(kind="scratch"), "replicated",
            training={"tables": TablesConfig(exchange="replicated", max_table_bytes=5000)},
        )  # fmt: skip
        with pytest.raises(ConfigError, match=r"8,472 bytes .* max_table_bytes is 5,000"):
            session.call("train_level", limited.model_dump(mode="json"))
    for name in ("cpm", "day1", "day2"):
        assert_same(tmp_path, f"replicated-{name}", f"row_wise-{name}")
    assert sorted(path.name for path in (tmp_path / "store" / "row_wise-day2").glob("frozen_tables-*")) == [
        "frozen_tables-00000-of-00002.safetensors", "frozen_tables-00001-of-00002.safetensors",
    ]  # fmt: skip
    # What two ranks have written is gone on with by one.
    tune = FineTune(kind="autoft", settings=AutoftConfig(temperature_steps=10))
    for exchange in ("replicated", "row_wise"):
        parent = start(tmp_path, "continue", f"{exchange}-day1")
        alone = level(tmp_path, f"{exchange}-alone", 2, parent, "auto", fine_tune=tune, ranks=1)
        train_level(SingleProcess(), alone, Signals())
    assert_same(tmp_path, "replicated-alone", "row_wise-alone")


def test_shared_memory_and_horovod_train_the_same_bits(tmp_path):
    for carrier in ("shared_memory", "horovod"):
        mailbox = tmp_path / f"mailbox-{carrier}"
        with RankSession(None, 2, mailbox, threads_per_rank=1, local_exchange=carrier) as session:
            for exchange in ("replicated", "row_wise"):
                task = level(tmp_path, f"{carrier}-{exchange}", 0, Start(kind="scratch"), exchange)
                session.call("train_level", task.model_dump(mode="json"))
    for exchange in ("replicated", "row_wise"):
        assert_same(tmp_path, f"shared_memory-{exchange}", f"horovod-{exchange}")
