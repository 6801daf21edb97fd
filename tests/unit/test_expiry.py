"""Expired tokens train nowhere: not in the rows of the window, not in old sequences, nor in lists that describe them."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from ecdctr.config.training import TrainingConfig
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.tasks import Signals
from ecdctr.exceptions import InputError
from ecdctr.features import FeatureSet
from ecdctr.features.encoding import bucket_id
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.training.level import TABLES, train_level
from ecdctr.training.task import ExpiredIds, Files, LevelTask, Start

pytestmark = pytest.mark.unit

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id", "category"),
    number_fields=(),
    sequence_fields={"clicked": 3, "clicked_category": 3, "tags": 2},
    vocabulary_of={
        "user_id": "user_id", "item_id": "item_id", "category": "category",
        "clicked": "item_id", "clicked_category": "category", "tags": "tags",
    },
    fixed_rows={},
    oov_buckets={"user_id": 1, "item_id": 2, "category": 1, "tags": 3},
    attention={"clicked": "item_id", "clicked_category": "category"},
    aligned={"clicked_category": "clicked"},
)  # fmt: skip
ROWS = {"user_id": 20, "item_id": 24, "category": 9, "tags": 12}
GONE = {"user_id": [5, 11], "item_id": [4, 5, 9, 30], "category": [3], "tags": [6, 11]}
"""Item 30 has come after the rows that the level knows."""


def samples(path: Path, gone=None, rows: int = 192) -> Files:
    """Rows of a window; with `gone`, with these ids replaced by hand."""
    rng = np.random.default_rng(1)
    table = {
        "event_id": [f"e{at}" for at in range(rows)],
        "user": [f"u{at}" for at in range(rows)],
        "day": pa.array(np.full(rows, 7), pa.int32()),
        "label": pa.array(rng.integers(0, 2, rows), pa.float32()),
        "weight": pa.array(np.ones(rows), pa.float32()),
    }
    for name, vocabulary in FEATURES.vocabulary_of.items():
        length = FEATURES.sequence_fields.get(name)
        ids = rng.integers(0 if length else 1, ROWS[vocabulary], (rows, length or 1))
        ids.sort(axis=1)
        ids = ids[:, ::-1]
        if gone is not None:
            buckets = FEATURES.oov_buckets[vocabulary]
            replaced = np.array([bucket_id(int(each), buckets) for each in ids.ravel()]).reshape(ids.shape)
            ids = np.where(np.isin(ids, gone[vocabulary]), replaced, ids)
        table[name] = pa.array(ids.tolist(), pa.list_(pa.int64())) if length else pa.array(ids[:, 0].copy())
    pq.write_table(pa.table(table), path)
    return Files(table="ad_samples", version=1, files=[(str(path), rows)])


def written(folder: Path) -> ExpiredIds:
    for name, ids in GONE.items():
        (folder / f"field={name}").mkdir(parents=True)
        for part, some in enumerate((ids[1:], ids[:1])):
            table = pa.table({"id": pa.array(some, pa.int64())})
            pq.write_table(table, folder / f"field={name}" / f"part-{part}.parquet")
    return ExpiredIds(folder=str(folder), digest="d", counts={name: len(ids) for name, ids in GONE.items()})


def task(root: Path, version: str, train: Files, **further) -> LevelTask:
    return LevelTask(
        version=version, level="actr", arm="ecdctr", features=dataclasses.asdict(FEATURES), rows=ROWS, backbone="din",
        options={"hidden_units": [8], "embedding_dim": 4}, training=TrainingConfig(batch_size=32, epochs=2), seed=3,
        lanes=2, ranks=1, train=[train], score=train, score_dir=str(root / "scores" / version),
        store=str(root / "store"), checkpoints=str(root / "checkpoints" / version),
        **({"start": Start(kind="scratch")} | further),
    )  # fmt: skip


def train(root: Path, made: LevelTask, ranks: int = 1):
    record = run_inline(ranks, lambda each: train_level(each, made, Signals()))[0]
    scores = [pq.read_table(file) for file in sorted((root / "scores" / made.version).glob("*/*.parquet"))]
    return record, pa.concat_tables(scores).sort_by("event_id")["probability"].to_numpy()


@pytest.mark.parametrize("ranks", [1, 2])
def test_rows_of_expired_tokens_stay_bit_for_bit_and_their_samples_count_for_their_buckets(tmp_path, ranks):
    plain, by_hand = samples(tmp_path / "plain.parquet"), samples(tmp_path / "by_hand.parquet", GONE)
    expired = written(tmp_path / "expired")
    hidden, scores = train(tmp_path, task(tmp_path, "hidden", plain, expired=expired), ranks)
    wanted, expected = train(tmp_path, task(tmp_path, "by_hand", by_hand), ranks)
    assert hidden["digest"] == wanted["digest"]
    np.testing.assert_array_equal(scores, expected)
    fresh = EmbeddingTables(ROWS, FEATURES.oov_buckets, 4, 3).tables()
    tables = load_file(tmp_path / "store" / "hidden" / TABLES)
    moved = load_file(tmp_path / "store" / "by_hand" / TABLES)
    for name, ids in GONE.items():
        known = [each for each in ids if each < ROWS[name]]
        torch.testing.assert_close(tables[name][known, :4], fresh[name][known], rtol=0, atol=0)
        others = [each for each in range(3, ROWS[name]) if each not in known]
        assert not torch.equal(moved[name][others, :4], fresh[name][others])


def test_a_token_that_returns_goes_on_from_where_it_stood(tmp_path):
    files = samples(tmp_path / "plain.parquet")
    train(tmp_path, task(tmp_path, "before", files))
    folder = tmp_path / "store" / "before"
    start = Start(kind="continue", artifact=str(folder), version="before", digest="d")
    train(tmp_path, task(tmp_path, "away", files, start=start, expired=written(tmp_path / "expired")))
    start = start.model_copy(update={"artifact": str(tmp_path / "store" / "away"), "version": "away"})
    train(tmp_path, task(tmp_path, "back", files, start=start))
    before, away, back = (load_file(tmp_path / "store" / name / TABLES) for name in ("before", "away", "back"))
    for name, ids in GONE.items():
        for each in (each for each in ids if each < ROWS[name]):
            assert torch.equal(before[name][each], away[name][each])
            assert not torch.equal(away[name][each], back[name][each])


def test_the_list_is_part_of_what_a_version_is_and_its_place_is_not(tmp_path):
    files = samples(tmp_path / "plain.parquet")
    none = task(tmp_path, "v", files)
    some = ExpiredIds(folder="a", digest="d", counts={"item_id": 1})
    digests = [none.model_copy(update={"expired": each}).digest() for each in (
        None, some, some.model_copy(update={"folder": "b"}), some.model_copy(update={"digest": "e"})
    )]  # fmt: skip
    assert digests[0] == none.digest()
    assert digests[1] == digests[2]
    assert len(set(digests)) == 3


def test_a_task_is_known_by_its_files_wherever_they_lie_and_whatever_was_added_beside_them(tmp_path):
    files = samples(tmp_path / "plain.parquet")
    digests = []
    for day, version, rows in (("d=1", 0, 9), ("d=1", 7, 9), ("d=2", 7, 9), ("d=1", 7, 8)):
        for warehouse in ("/warehouse", "/mnt/moved"):
            paths = [(f"{warehouse}/ad_samples/{day}/part-0.parquet", rows)]
            of = files.model_copy(update={"version": version, "files": paths})
            digests.append(task(tmp_path, "v", files).model_copy(update={"train": [of], "validation": [of]}).digest())
    assert len(set(digests[:4])) == 1
    assert len(set(digests)) == 3


def test_a_list_that_is_not_whole_is_named(tmp_path):
    files = samples(tmp_path / "plain.parquet")
    expired = written(tmp_path / "expired")
    (tmp_path / "expired" / "field=tags" / "part-0.parquet").unlink()
    with pytest.raises(InputError, match="holds 1 expired ids of tags, expected 2"):
        train(tmp_path, task(tmp_path, "v", files, expired=expired))
    (tmp_path / "expired" / "field=tags" / "part-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="has a damaged file"):
        train(tmp_path, task(tmp_path, "v", files, expired=expired))
