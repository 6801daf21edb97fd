"""Joint training over the files of two tables: every step's rows and weights, and a day that goes on from the day before."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from ecdctr.config.training import TrainingConfig
from ecdctr.data.reader import iterate
from ecdctr.data.shard_plan import FileRows, join_plans, plan_lanes
from ecdctr.distributed.single import SingleProcess
from ecdctr.distributed.tasks import Signals
from ecdctr.exceptions import ConfigError
from ecdctr.features import FeatureSet
from ecdctr.features.domains import AD, NATURAL
from ecdctr.training.level import train_level
from ecdctr.training.task import Files, LevelTask, Start, Tower

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
ROWS = {"user_id": 40, "item_id": 25}
CLICK_RATE = {NATURAL: 0.5, AD: 0.25}


def write(folder, sizes: list[int], domain: int, first: int = 0) -> list[tuple[str, int]]:
    """Files of one table; user ids tell the row, and the clicks of each file are exactly the domain's rate."""
    files = []
    for place, rows in enumerate(sizes):
        number = np.arange(first, first + rows)
        table = pa.table(
            {
                "event_id": [f"{domain}-{at}" for at in number],
                "user": [f"u{at}" for at in number],
                "day": pa.array(np.full(rows, 100), pa.int32()),
                "label": pa.array((np.arange(rows) < rows * CLICK_RATE[domain]).astype(np.float32)),
                "weight": pa.array(np.ones(rows), pa.float32()),
                "user_id": pa.array(number + 1000 * domain + 3),
                "item_id": pa.array(3 + number % 22),
            }
        )
        path = folder / f"{domain}-{first}-{place}.parquet"
        pq.write_table(table, path)
        files.append((str(path), rows))
        first += rows
    return files


def joined(files: dict[int, list[tuple[str, int]]], lanes: int):
    return join_plans(
        [plan_lanes([FileRows(*file, domain) for file in own], lanes, 5, True) for domain, own in files.items()]
    )


@pytest.mark.parametrize("lanes", [1, 3, 4])
def test_every_step_has_each_domain_s_share_whatever_the_ranks(tmp_path, lanes):
    files = {AD: write(tmp_path, [30, 10], AD), NATURAL: write(tmp_path, [200, 100, 60], NATURAL)}
    plan = joined(files, lanes)
    steps = {}
    for size in (1, 2):
        per_rank = [list(iterate(plan, rank, size, FEATURES, 40, names=True)) for rank in range(size)]
        steps[size] = [
            sorted((name, int(d)) for part in step for name, d in zip(part.event_id, part.domain, strict=True))
            for step in zip(*per_rank, strict=True)
        ]
    assert steps[1] == steps[2]
    assert len(steps[1]) == 10
    rows = [row for step in steps[1] for row in step]
    assert len(set(rows)) == len(rows) == 400
    assert all(name.startswith(f"{domain}-") for name, domain in rows)
    # 40 of 400 rows are ads: four of each step, but for what each lane rounds.
    for step in steps[1]:
        assert abs(sum(domain == AD for _, domain in step) - 4) <= lanes


def task(tmp_path, version: str, sources: dict[int, list[tuple[str, int]]], **settings) -> LevelTask:
    names = {AD: "ad", NATURAL: "natural"}
    weight = settings.pop("ad_weight", 1.0)
    train = [
        Files(
            table=f"{names[domain]}_samples", version=1, files=files, domain=names[domain],
            weight=weight if domain == AD else 1.0,
        )
        for domain, files in sources.items()
    ]  # fmt: skip
    base = {
        "level": "actr", "arm": "mmoe", "features": json.loads(json.dumps(FEATURES.__dict__)), "rows": ROWS,
        "backbone": "mmoe", "seed": 3, "lanes": 2, "ranks": 1, "start": Start(kind="scratch"),
        "options": {"embedding_dim": 4, "expert_units": [8], "tower_units": [4]},
        "training": TrainingConfig(batch_size=40), "store": str(tmp_path / "store"),
        "checkpoints": str(tmp_path / "checkpoints" / version),
    }  # fmt: skip
    return LevelTask(version=version, train=train, **base | settings)


def run(made: LevelTask) -> dict:
    return train_level(SingleProcess(), made, Signals())


def test_a_day_goes_on_from_the_day_before_with_the_new_rows_of_both(tmp_path):
    first = {AD: write(tmp_path, [40], AD), NATURAL: write(tmp_path, [200, 160], NATURAL)}
    second = {AD: write(tmp_path, [20], AD, 500), NATURAL: write(tmp_path, [60], NATURAL, 500)}
    record = run(task(tmp_path, "one", first))
    assert (record["rows"], record["steps"]) == (400, 10)
    # The prior that a later start needs is that of the level's own rows, the ads.
    assert record["log_odds"] == pytest.approx(np.log(11 / 31))
    start = Start(kind="continue", artifact=str(tmp_path / "store" / "one"), version="one", digest=record["digest"])
    score = Files(table="ad_samples", version=1, files=write(tmp_path, [50], AD, 900), domain="ad")
    going_on = task(tmp_path, "two", second, start=start, score=score, score_dir=str(tmp_path / "scores"))
    assert run(going_on)["rows"] == 80
    scores = pq.read_table(tmp_path / "scores" / "rank-0" / "scores.parquet")
    assert scores.num_rows == 50
    assert set(scores["event_id"].to_pylist()) == {f"{AD}-{at}" for at in range(900, 950)}
    before, after = (load_file(tmp_path / "store" / version / "network.safetensors") for version in ("one", "two"))
    assert not torch.equal(before["towers.0.layers.0.weight"], after["towers.0.layers.0.weight"])
    moved = [torch.equal(before[f"towers.{d}.layers.0.weight"], after[f"towers.{d}.layers.0.weight"]) for d in (0, 1)]
    assert moved == [False, False]


def test_heads_begin_with_the_click_rate_of_their_domain(tmp_path):
    files = {AD: write(tmp_path, [400], AD), NATURAL: write(tmp_path, [400], NATURAL)}
    still = TrainingConfig(batch_size=800, dense_learning_rate=1e-12, sparse_learning_rate=1e-12)
    losses = {}
    for weight in (1.0, 3.0):
        record = run(task(tmp_path, f"weight-{weight}", files, training=still, ad_weight=weight))
        losses[weight] = record["train_log_loss"]

    def entropy(p: float) -> float:
        return -(p * np.log(p) + (1 - p) * np.log(1 - p))

    ads, natural = entropy(CLICK_RATE[AD]), entropy(CLICK_RATE[NATURAL])
    # A fresh network's logits scatter a little around the prior.
    assert losses[1.0] == pytest.approx((ads + natural) / 2, abs=0.01)
    assert losses[3.0] == pytest.approx((3 * ads + natural) / 4, abs=0.01)
    assert abs(ads - natural) > 0.1


def test_a_model_with_one_head_is_not_trained_on_two_domains(tmp_path):
    files = {AD: write(tmp_path, [8], AD), NATURAL: write(tmp_path, [8], NATURAL)}
    with pytest.raises(ConfigError, match="din has one head and cannot train on 2 domains"):
        run(task(tmp_path, "one", files, backbone="din", options={"embedding_dim": 4}))


def test_the_frozen_tower_of_a_version_is_its_cpm_bit_for_bit(tmp_path):
    options = {"backbone": "dnn", "options": {"embedding_dim": 4, "hidden_units": [6]}}
    cpms = {}
    for name, first in (("cpm-1", 0), ("cpm-2", 300)):
        made = task(tmp_path, name, {NATURAL: write(tmp_path, [200], NATURAL, first)}, **options, export_snapshot=True)
        record = run(made)
        cpms[name] = Tower(version=name, artifact=str(made.folder), digest=record["digest"])
        vectors, present = (np.load(made.folder / f"item{end}.npy") for end in ("", "_present"))
        assert vectors.shape == (ROWS["item_id"], 4)
        assert present.tolist() == [False] * 3 + [True] * 22
    rows = ROWS | {f"source.{name}": count for name, count in ROWS.items()}
    start = Start(kind="scratch")
    for day, name in enumerate(["cpm-1", "cpm-1", "cpm-2"]):
        ads = {AD: write(tmp_path, [40], AD, 100 * day)}
        made = task(tmp_path, f"day-{day}", ads, **options, rows=rows, tower=cpms[name], start=start)
        digest = run(made)["digest"]
        start = Start(kind="continue", artifact=str(made.folder), version=made.version, digest=digest)
        for kind in ("network", "tables"):
            own = load_file(made.folder / f"{kind}.safetensors")
            source = load_file(tmp_path / "store" / name / f"{kind}.safetensors")
            assert {key.removeprefix("source.") for key in own if key.startswith("source.")} == set(source)
            for key, tensor in source.items():
                assert torch.equal(own[f"source.{key}"], tensor), (day, key)
    tower = task(tmp_path, "again", ads, **options, rows=rows, tower=cpms["cpm-1"])
    other = tower.model_copy(update={"tower": cpms["cpm-2"]})
    moved = tower.model_copy(update={"tower": cpms["cpm-1"].model_copy(update={"artifact": "/elsewhere"})})
    assert tower.digest() == moved.digest() != other.digest()
