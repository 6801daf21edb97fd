"""A-CTR with AutoFT day by day: what a version stores, what the next one takes up, and that it scores by itself."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from ecdctr.config.schema import AutoftConfig
from ecdctr.config.training import TrainingConfig
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.single import SingleProcess
from ecdctr.distributed.tasks import Signals
from ecdctr.exceptions import TrainingError
from ecdctr.features import FeatureSet
from ecdctr.training.level import (
    FROZEN_NETWORK,
    FROZEN_TABLES,
    NETWORK,
    OPTIMIZER,
    TABLES,
    _build,
    load_version,
    train_level,
)  # fmt: skip
from ecdctr.training.level_batches import level_batches
from ecdctr.training.task import Files, FineTune, LevelTask, Start
from ecdctr.transfer.settle import constant_choices, recorded_constants, settle

pytestmark = pytest.mark.unit

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id"),
    number_fields=("price",),
    sequence_fields={},
    vocabulary_of={"user_id": "user_id", "item_id": "item_id"},
    fixed_rows={},
    oov_buckets={"user_id": 1, "item_id": 1},
    attention={},
)
ROWS = {"user_id": 40, "item_id": 25}


def samples(folder: Path, day: int, rows: int = 256) -> Files:
    rng = np.random.default_rng(day)
    item = rng.integers(3, 25, rows)
    table = pa.table(
        {
            "event_id": [f"{day}-{at}" for at in range(rows)],
            "user": [f"u{at}" for at in rng.integers(0, 60, rows)],
            "day": pa.array(np.full(rows, day), pa.int32()),
            "label": pa.array((item % 3 == 0) & (rng.random(rows) < 0.7), pa.float32()),
            "weight": pa.array(np.ones(rows), pa.float32()),
            "user_id": pa.array(rng.integers(3, 40, rows)),
            "item_id": pa.array(item),
            "price": pa.array(rng.standard_normal(rows), pa.float32()),
        }
    )
    files = []
    for lane in range(2):
        path = folder / f"{day}-{lane}.parquet"
        pq.write_table(table.slice(lane * rows // 2, rows // 2), path)
        files.append((str(path), rows // 2))
    return Files(table="ad_samples", version=1, files=files)


class Days:
    """A CPM version, then A-CTR versions of days 1, 2, …, in one store."""

    def __init__(self, root: Path, ranks: int = 1) -> None:
        self.root, self.ranks = root, ranks
        (root / "data").mkdir(parents=True)

    def task(
        self, version: str, day: int, start: Start, rows=ROWS, policy: str | None = "autoft", steps: int | None = 10
    ) -> LevelTask:
        return LevelTask(
            version=version, level="actr", arm="autoft", features=dict(FEATURES.__dict__), rows=rows, backbone="dcnv2",
            options={"hidden_units": [8], "embedding_dim": 4}, training=TrainingConfig(batch_size=32), seed=3, lanes=2,
            ranks=self.ranks, start=start, train=[samples(self.root / "data", day)],
            fine_tune=FineTune(kind=policy, settings=AutoftConfig(temperature_steps=steps)) if policy else None,
            score=samples(self.root / "data", day + 1), score_dir=str(self.root / "scores" / version),
            store=str(self.root / "store"), checkpoints=str(self.root / "checkpoints" / version),
        )  # fmt: skip

    def train(self, task: LevelTask):
        return run_inline(self.ranks, lambda ranks: train_level(ranks, task, Signals()))[0]

    def folder(self, version: str) -> Path:
        return self.root / "store" / version

    def scores(self, version: str):
        parts = sorted((self.root / "scores" / version).glob("rank-*/scores.parquet"))
        return pa.concat_tables([pq.read_table(part) for part in parts]).sort_by("event_id")

    def start(self, kind: str, version: str, **settings) -> Start:
        return Start(kind=kind, artifact=str(self.folder(version)), version=version, digest="x", **settings)


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    made = Days(tmp_path_factory.mktemp("days"))
    cpm = made.train(made.task("cpm", 0, Start(kind="scratch"), policy=None))
    warm = made.start("warm", "cpm", batch_norm="full", log_odds=cpm["log_odds"] - 0.5)
    first = made.train(made.task("day1", 1, warm))
    grown = ROWS | {"item_id": 30}
    second = made.train(made.task("day2", 2, made.start("continue", "day1"), grown))
    made.records = {"cpm": cpm, "day1": first, "day2": second}
    return made


def test_the_frozen_twin_is_cpm_on_every_day_and_costs_no_second_copy_of_its_tables(days):
    cpm = load_file(days.folder("cpm") / NETWORK)
    for version in ("day1", "day2"):
        frozen = load_file(days.folder(version) / FROZEN_NETWORK)
        assert frozen.keys() == cpm.keys()
        for name, tensor in frozen.items():
            shifted = name == "mlp.layers.3.bias"
            assert torch.equal(tensor, cpm[name]) != shifted, name
        assert (days.folder(version) / FROZEN_TABLES).samefile(days.folder("cpm") / TABLES)
    one, two = (load_file(days.folder(version) / FROZEN_NETWORK) for version in ("day1", "day2"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_next_day_goes_on_with_tuned_way_policy_and_temperature(days):
    first, second = (load_file(days.folder(version) / NETWORK) for version in ("day1", "day2"))
    assert int(first["policy.steps"]) == 8
    assert int(second["policy.steps"]) == 16
    state = load_file(days.folder("day2") / OPTIMIZER)
    assert int(state["adam.step.policy.network.layers.0.weight"]) == 16
    assert not [name for name in [*first, *second, *state] if "frozen" in name]
    assert len(load_file(days.folder("day2") / TABLES)["item_id"]) == 30


def test_the_temperature_falls_over_the_replay_that_starts_from_cpm(days):
    anneal = {}
    for version, day, start in (
        ("replay", 1, days.start("warm", "cpm")),
        ("next", 2, days.start("continue", "replay")),
    ):
        task = days.task(version, day, start, steps=None)
        half = task.model_copy(update={"train": [task.train[0].model_copy(update={"files": task.train[0].files[:1]})]})
        days.train(half if version == "next" else task)
        anneal[version] = int(load_file(days.folder(version) / NETWORK)["policy.anneal_steps"])
    # 256 rows in steps of 32; the day after has half of them.
    assert anneal == {"replay": 8, "next": 8}
    given = load_file(days.folder("day2") / NETWORK)
    assert int(given["policy.anneal_steps"]) == 10


def test_a_version_scores_by_itself_without_its_parents(days, tmp_path):
    alone = Days(tmp_path / "alone")
    for version in ("day1", "day2"):
        shutil.copytree(days.folder(version), alone.folder(version))
    rows = ROWS | {"item_id": 30}
    task = days.task("day2", 2, days.start("continue", "day1"), rows)
    shutil.rmtree(alone.folder("day1"))
    adopted = alone.train(
        task.model_copy(update={"store": str(alone.root / "store"), "score_dir": str(tmp_path / "scores")})
    )
    assert adopted["digest"] == days.records["day2"]["digest"]
    assert adopted["policies"] == days.records["day2"]["policies"]
    assert (
        pq.read_table(tmp_path / "scores" / "rank-0" / "scores.parquet").sort_by("event_id").equals(days.scores("day2"))
    )


def test_choices_are_recorded_for_the_scored_day(days):
    found = days.records["day1"]["policies"]
    assert found["decisions"][0] == "field.user_id"
    assert sum(found["rows"].values()) == 256
    assert all(0 <= share <= 1 for shares in found["tuned"].values() for share in shares)
    assert "policies" not in days.records["cpm"]


@pytest.mark.parametrize("policy", ["freeze", "autoft"])
def test_what_the_record_calls_constant_has_one_copy_in_the_model_that_scores(days, policy):
    version = f"settled-{policy}"
    task = days.task(version, 1, days.start("warm", "cpm"), policy=policy)
    record = days.train(task)
    model = _build(task, SingleProcess())
    load_version(model, days.folder(version))
    constant = recorded_constants(record["policies"])
    small = settle(model.eval(), constant)
    rows = list(level_batches(task, SingleProcess(), [task.score], epoch=0, shuffle=False, batch_size=64, names=True))
    assert constant == constant_choices(model, rows)
    if policy == "freeze":
        assert type(small) is type(model.tuned)
        assert set(constant) == set(model.names)
    probabilities = days.scores(version)["probability"].to_numpy()
    events = np.array([event for batch in rows for event in batch.event_id])
    scored = np.concatenate([torch.sigmoid(small(batch).double()).detach().numpy() for batch in rows])
    # Batches of another size may sum in another order; the two models may not differ at all.
    np.testing.assert_allclose(scored[np.argsort(events)], probabilities, rtol=1e-5)
    for batch in rows:
        assert torch.equal(small(batch), model(batch))


def test_a_decision_that_one_group_of_users_takes_otherwise_is_not_constant():
    told = {
        "decisions": ["a", "b", "c"],
        "rows": {"1": 5, "2-4": 9},
        "tuned": {"1": [0.0, 1.0, 0.0], "2-4": [0.0, 1.0, 1.0]},
    }
    assert recorded_constants(told) == {"a": False, "b": True}
    with pytest.raises(TrainingError, match="no rows"):
        recorded_constants({"decisions": ["a"], "rows": {}, "tuned": {}})


def test_frozen_as_a_whole_but_for_the_head(days):
    record = days.train(days.task("frozen", 1, days.start("warm", "cpm"), policy="freeze"))
    before, after = (load_file(days.folder(v) / NETWORK) for v in ("cpm", "frozen"))
    moved = {name for name in before if not torch.equal(before[name], after[f"tuned.{name}"])}
    assert {name for name in moved if "running" not in name and "tracked" not in name} == {
        "mlp.layers.3.weight", "mlp.layers.3.bias",
    }  # fmt: skip
    assert torch.equal(
        load_file(days.folder("frozen") / TABLES)["item_id"], load_file(days.folder("cpm") / TABLES)["item_id"]
    )
    assert {share for shares in record["policies"]["tuned"].values() for share in shares} == {0.0, 1.0}
