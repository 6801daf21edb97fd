"""A dimension for every field: numbers that are left out stay zero, the others learn as they would without."""

import copy

import pytest
import torch

from ecdctr.config import load_config
from ecdctr.config.schema import ModelConfig
from ecdctr.config.training import TrainingConfig
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.single import SingleProcess
from ecdctr.exceptions import ConfigError, TrainingError
from ecdctr.models.registry import build
from ecdctr.pipelines.arms import ARMS
from ecdctr.training.trainer import Trainer
from tests.unit.test_levels_baselines import SIMULATED
from tests.unit.test_trainer import FEATURES, ROWS, STEPS, batches

pytestmark = pytest.mark.unit


def model_of(backbone: str = "deepfm", dims=None, features=FEATURES):
    return build(
        backbone, features=features, rows={name: ROWS["user_id" if "user" in name else "item_id"] for name in features.vocabularies},
        seed=4, embedding_dim=6, hidden_units=[8], embedding_dims=dims,
    )  # fmt: skip


def trained(collective, model, parts, **settings):
    model.attach(collective)
    Trainer(model, collective, TrainingConfig(**settings), seed=4).fit(parts, STEPS)
    return model.tables


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "lazy_adam", "ftrl"])
def test_numbers_left_out_stay_zero_and_a_first_order_weight_learns(optimizer):
    settings = {"sparse_optimizer": optimizer, "sparse_l2": 0.1, "max_norm": 5.0}
    before = model_of(dims={"item_id": 3}).tables.table("item_id").clone()
    tables = trained(SingleProcess(), model_of(dims={"item_id": 3}), batches(), **settings)
    items, users = tables.table("item_id"), tables.table("user_id")
    assert not before[:, 3:6].any()
    assert not items[:, 3:6].any()
    assert all((items[3:, column] != before[3:, column]).any() for column in (0, 1, 2, 6))
    assert users[3:].any(0).all()


def test_the_numbers_kept_get_the_gradients_of_a_table_of_zeros():
    narrow, plain = model_of(dims={"item_id": 2, "user_id": 5}), model_of()
    plain.tables.weight.copy_(narrow.tables.weight)
    for model in (narrow, plain):
        model.train()(batches()[0]).sum().backward()
    (places, kept), (others, whole) = narrow.tables.touched_gradients(), plain.tables.touched_gradients()
    assert torch.equal(places, others)
    item = (places >= narrow.tables.offsets["item_id"]).unsqueeze(1)
    column = torch.arange(7)
    learns = torch.where(item, (column < 2) | (column == 6), (column < 5) | (column == 6))
    assert torch.equal(kept, whole * learns)
    assert (whole * ~learns).any()


def test_sharded_tables_have_the_same_bits():
    models = [model_of(dims={"item_id": 3}) for _ in range(2)]

    def share(collective, sharded):
        model = copy.deepcopy(models[collective.rank])
        model.tables.shard(sharded, collective)
        cut = [batch.slice(0, 5) if collective.rank == 0 else batch.slice(5, len(batch)) for batch in batches()]
        return trained(collective, model, cut).table("item_id").clone()

    whole = run_inline(2, lambda ranks: share(ranks, []))[0]
    parts = run_inline(2, lambda ranks: share(ranks, ["item_id", "user_id"]))
    for rank, part in enumerate(parts):
        assert torch.equal(part, whole[rank::2])


def test_the_source_of_a_frozen_tower_has_the_dimensions_of_its_twin():
    from ecdctr.transfer.frozen_tower import FrozenTower

    tower = FrozenTower(model_of("dnn", {"item_id": 3}), model_of("dnn", {"item_id": 3}, FEATURES.of_source()))
    assert not tower.tables.table("item_id")[:, 3:].any()
    assert not tower.tables.table("source.item_id")[:, 3:].any()


def test_what_does_not_fit_is_named():
    with pytest.raises(ConfigError, match="embedding_dims names nobody"):
        model_of(dims={"nobody": 2})
    with pytest.raises(ValueError, match=r"embedding_dims.item_id is 17: expected 1 to embedding_dim, 16"):
        ModelConfig(embedding_dims={"item_id": 17})
    tables = model_of().tables
    assert len(tables.weight)
    with pytest.raises(TrainingError, match="cannot be narrowed"):
        tables.narrow({"item_id": 2})


@pytest.mark.parametrize("arm", ["ecdctr", "target_only", "mmoe"])
def test_every_arm_s_model_has_them(arm):
    config = load_config(SIMULATED, ["model.embedding_dims={item_id: 4}"])
    assert ARMS[arm].options(config)["embedding_dims"] == {"item_id": 4}
