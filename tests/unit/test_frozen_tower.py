"""A frozen source tower: the formula by hand, what never changes, and what a day's update replaces."""

import copy

import pytest
import torch

from ecdctr.config.training import TrainingConfig
from ecdctr.data.batch import Batch
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.single import SingleProcess
from ecdctr.features import FeatureSet
from ecdctr.models.joint import JointModel
from ecdctr.models.registry import MODELS, build
from ecdctr.training.trainer import Trainer
from ecdctr.transfer.frozen_tower import FrozenTower, hidden_layers

pytestmark = pytest.mark.unit

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id"),
    number_fields=("price",),
    sequence_fields={"clicked": 4},
    vocabulary_of={"user_id": "user_id", "item_id": "item_id", "clicked": "item_id"},
    fixed_rows={},
    oov_buckets={"user_id": 1, "item_id": 2},
    attention={"clicked": "item_id"},
)
ROWS = {"user_id": 40, "item_id": 26}
EARLIER = {"user_id": 30, "item_id": 20}
BACKBONES = [name for name, kind in MODELS.items() if name != "tiny" and not issubclass(kind, JointModel)]


def natural_model(name: str = "dcnv2", seed: int = 1):
    """A network as CPM would give it, with the rows that it knew."""
    model = build(name, features=FEATURES, rows=EARLIER, seed=seed, embedding_dim=4, hidden_units=[6, 5])
    torch.manual_seed(seed)
    model.tables.weight.mul_(50)
    model.train()(batch(200, 3))
    return model.eval()


def tower(source, name: str = "dcnv2") -> FrozenTower:
    options = {"seed": 2, "embedding_dim": 4, "hidden_units": [6, 5]}
    rows = ROWS | {f"source.{key}": count for key, count in EARLIER.items()}
    target = build(name, features=FEATURES, rows=rows, **options)
    twin = build(name, features=FEATURES.of_source(), rows=rows, **options)
    model = FrozenTower(target, twin)
    model.load_source(source.network_state(), source.tables.tables())
    return model


def lively(model: FrozenTower) -> FrozenTower:
    """Adapters as they are after training: at the start they add nothing."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


def batch(rows: int = 12, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(3, n, (rows,), generator=generator) for n in ROWS.values()], 1)
    return Batch(
        ids=ids,
        numbers=torch.randn(rows, 1, generator=generator),
        sequences={"clicked": torch.randint(0, 26, (rows, 4), generator=generator)},
        label=((ids[:, 1] % 3) == 0).float(),
        weight=torch.ones(rows),
        day=torch.zeros(rows, dtype=torch.int64),
    )


def test_hidden_layers_take_from_those_of_the_source_by_hand():
    source = natural_model()
    model, data = lively(tower(source)).eval(), batch()

    def inputs(network) -> torch.Tensor:
        fields, _ = network.inputs(data)
        return network.cross(torch.cat([fields.flatten(1), data.numbers], 1))

    def layers(network) -> list[tuple]:
        parts = list(network.mlp.layers)
        return [(parts[0], parts[1]), (parts[3], parts[4])]

    mine, theirs = inputs(model.target), inputs(source)
    for place, ((linear, norm), (twin, twin_norm)) in enumerate(zip(layers(model.target), layers(source), strict=True)):
        theirs = twin_norm(twin(theirs)).clamp_min(0)
        adapter = model.adapters[f"mlp_{place * 3 + 2}"]
        w, b, v, c = adapter.value.weight, adapter.value.bias, adapter.gate.weight, adapter.gate.bias
        taken = (theirs @ w.T + b) / (1 + (-(theirs @ v.T + c)).exp())
        mine = norm(linear(mine)).clamp_min(0) + taken
    expected = mine @ model.target.mlp.layers[-1].weight.T + model.target.mlp.layers[-1].bias
    torch.testing.assert_close(model(data), expected.squeeze(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_any_backbone_can_stand_on_both_sides(name):
    source = natural_model(name)
    model, data = tower(source, name), batch(40)
    # Later ids are what they were to the source: out of its vocabulary, whatever the target knows of them.
    assert (data.ids[:, 0] >= EARLIER["user_id"]).any()
    torch.testing.assert_close(model.eval().source(data), source(data))
    alone = build(name, features=FEATURES, rows=ROWS, seed=2, embedding_dim=4, hidden_units=[6, 5]).eval()
    torch.testing.assert_close(model(data), alone(data))
    assert len(model.adapters) == len(list(hidden_layers(alone))) >= 2
    assert not torch.allclose(lively(model)(data), alone(data))


def fit(collective, parts, model):
    model.attach(collective)
    trainer = Trainer(model, collective, TrainingConfig(dense_learning_rate=1e-2), seed=4)
    losses = []
    trainer.fit(parts, len(parts), on_step=lambda progress: losses.append(progress.loss))
    return losses, trainer


def test_the_source_is_the_same_bit_for_bit_after_training():
    source = natural_model()
    model = tower(source)
    before = copy.deepcopy(model.network_state())
    tables = {name: table.clone() for name, table in model.tables.tables().items()}
    losses, trainer = fit(SingleProcess(), [batch(48, seed) for seed in range(30)], model)
    assert sum(losses[-5:]) < sum(losses[:5]) - 0.2
    after = model.network_state()
    for name, tensor in after.items():
        if name.startswith("source."):
            assert torch.equal(tensor, before[name]), name
    for name, table in model.tables.tables().items():
        assert torch.equal(table, tables[name]) == name.startswith("source."), name
    silent = [
        name for name, p in model.named_parameters() if p.requires_grad and torch.equal(before[name], after[name])
    ]
    assert not silent
    assert not [name for name in trainer.optimizer_state() if name.startswith("adam.") and ".source." in name]


def test_a_newer_source_takes_the_old_one_s_place_and_the_rest_goes_on():
    old, new = natural_model(seed=1), natural_model(seed=5)
    model, data = lively(tower(old)), batch()
    fit(SingleProcess(), [batch(48, 1)], model)
    target = {name: t.clone() for name, t in model.network_state().items() if not name.startswith("source.")}
    before = model.eval()(data)
    model.load_source(new.network_state(), new.tables.tables())
    torch.testing.assert_close(model.source(data), new(data))
    assert not torch.allclose(model(data), before)
    for name, tensor in target.items():
        assert torch.equal(model.network_state()[name], tensor), name


def test_two_ranks_take_the_steps_of_one():
    source = natural_model()
    parts = [batch(48, seed) for seed in range(5)]
    alone, _ = fit(SingleProcess(), parts, tower(source))
    models = [tower(source), tower(source)]

    def share(collective):
        cut = [part.slice(0, 0) if collective.rank else part for part in parts[:1]]
        cut += [part.slice(0, 7) if collective.rank else part.slice(7, 48) for part in parts[1:]]
        return fit(collective, cut, models[collective.rank])[0]

    left, right = run_inline(2, share)
    assert left == right
    torch.testing.assert_close(torch.tensor(left), torch.tensor(alone), rtol=1e-4, atol=1e-5)
