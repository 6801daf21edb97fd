"""MMoE, PLE and STAR against their papers' formulas, written out row by row; and what a row's domain decides."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from ecdctr.config.training import TrainingConfig
from ecdctr.data.batch import Batch
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.single import SingleProcess
from ecdctr.features import FeatureSet
from ecdctr.features.domains import AD, DOMAINS, NATURAL
from ecdctr.models.registry import build
from ecdctr.nn.star import PartitionedNorm
from ecdctr.training.trainer import Trainer

pytestmark = pytest.mark.unit

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id"),
    number_fields=("price",),
    sequence_fields={"clicked": 4},
    vocabulary_of={"user_id": "user_id", "item_id": "item_id", "clicked": "item_id"},
    fixed_rows={},
    oov_buckets={"user_id": 1, "item_id": 1},
    attention={"clicked": "item_id"},
)
ROWS = {"user_id": 40, "item_id": 25}
SIZES = {
    "mmoe": {"experts": 3, "expert_units": [6, 5], "tower_units": [4]},
    "ple": {
        "extraction_layers": 3,
        "specific_experts": 2,
        "shared_experts": 3,
        "expert_units": [5],
        "tower_units": [4],
    },
    "star": {"hidden_units": [6, 5], "auxiliary_units": [4]},
}
JOINT = list(SIZES)


def make(name: str, **options):
    return build(name, features=FEATURES, rows=ROWS, seed=5, embedding_dim=4, **SIZES[name] | options)


def batch(rows: int = 12, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(3, n, (rows,), generator=generator) for n in ROWS.values()], 1)
    return Batch(
        ids=ids,
        numbers=torch.randn(rows, 1, generator=generator),
        sequences={"clicked": torch.randint(0, 25, (rows, 4), generator=generator)},
        label=((ids[:, 1] % 3) == 0).float(),
        weight=torch.ones(rows),
        day=torch.zeros(rows, dtype=torch.int64),
        domain=torch.randint(0, 2, (rows,), generator=generator),
    )


def lively(model):
    """Values of the size that they have after training, different everywhere."""
    generator = torch.Generator().manual_seed(8)
    model.tables.weight.mul_(50)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


def mlp(network, x: torch.Tensor, out: bool = True) -> torch.Tensor:
    """Linear and ReLU by hand; `out`: the last layer is linear alone."""
    linears = [layer for layer in network.layers if isinstance(layer, torch.nn.Linear)]
    for place, linear in enumerate(linears):
        x = linear.weight @ x + linear.bias
        if not (out and place == len(linears) - 1):
            x = x.clamp_min(0)
    return x


def mixed(gate, x: torch.Tensor, experts: list[torch.Tensor]) -> torch.Tensor:
    weights = (gate.weight @ x).exp()
    return sum(weight / weights.sum() * expert for weight, expert in zip(weights, experts, strict=True))


def reference_mmoe(model, x, domain):
    experts = [mlp(expert, x, out=False) for expert in model.experts]
    return mlp(model.towers[domain], mixed(model.gates[domain], x, experts))[0]


def reference_ple(model, x, domain):
    states = {NATURAL: x, AD: x, "shared": x}
    for layer in model.extraction:
        own = {
            d: [mlp(layer.specific[d * layer.count + i], states[d], out=False) for i in range(layer.count)]
            for d in (NATURAL, AD)
        }
        shared = [mlp(expert, states["shared"], out=False) for expert in layer.shared]
        following = {d: mixed(layer.gates[d], states[d], own[d] + shared) for d in (NATURAL, AD)}
        if layer is not model.extraction[-1]:
            following["shared"] = mixed(layer.shared_gate, states["shared"], own[NATURAL] + own[AD] + shared)
        states = following
    return mlp(model.towers[domain], states[domain])[0]


def reference_star(model, x, domain):
    own = model.norm.domains[domain]
    normal = (x - own.running_mean) / (own.running_var + own.eps).sqrt()
    h = model.norm.weight * own.weight * normal + model.norm.bias + own.bias
    for layer in [*model.hidden, model.output]:
        weight = layer.shared.weight * layer.domain_weight[domain]
        h = weight @ h + layer.shared.bias + layer.domain_bias[domain]
        h = h if layer is model.output else h.clamp_min(0)
    return (h + mlp(model.auxiliary, torch.cat([model.domain_vectors[domain], x])))[0]


@pytest.mark.parametrize("name", JOINT)
def test_logits_are_the_paper_s_formula(name):
    model = lively(make(name, **({} if name == "star" else {"batch_norm": False})))
    if name == "star":
        model.train()(batch(200, seed=1))
    data = batch()
    inputs = model.eval().flat_inputs(data)
    reference = {"mmoe": reference_mmoe, "ple": reference_ple, "star": reference_star}[name]
    expected = torch.stack([reference(model, x, int(d)) for x, d in zip(inputs, data.domain, strict=True)])
    torch.testing.assert_close(model(data), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.05


def test_partitioned_normalisation_keeps_the_statistics_of_each_domain_apart():
    norm = PartitionedNorm(3, 2)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        norm.bias.fill_(0.5)
        norm.domains[AD].weight.fill_(0.5)
        norm.domains[AD].bias.fill_(-1.0)
    torch.manual_seed(1)
    rows = {NATURAL: torch.randn(50, 3) * 2 + 7, AD: torch.randn(40, 3) * 5 - 3}
    for domain, x in rows.items():
        z = (x - x.mean(0)) / x.var(0, unbiased=False).add(1e-5).sqrt()
        scale, shift = (1.0, 0.0) if domain == NATURAL else (0.5, -1.0)
        expected = z * (norm.weight * scale) + (norm.bias + shift)
        torch.testing.assert_close(norm(x, domain), expected, rtol=1e-4, atol=1e-4)
    for domain, x in rows.items():
        torch.testing.assert_close(norm.domains[domain].running_mean, 0.1 * x.mean(0))
        torch.testing.assert_close(norm.domains[domain].running_var, 0.9 + 0.1 * x.var(0))


def test_star_reads_its_batch_by_domain():
    model, data = make("star"), batch(60)
    x = model.train().flat_inputs(data).detach()
    model(data)
    for domain in (NATURAL, AD):
        own = x[data.domain == domain]
        torch.testing.assert_close(model.norm.domains[domain].running_mean, 0.1 * own.mean(0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", JOINT)
def test_ads_are_scored_by_the_ad_head_alone(name):
    model, data = lively(make(name)).eval(), batch()
    ads = dataclasses.replace(data, domain=torch.full((len(data),), AD))
    unnamed = dataclasses.replace(data, domain=None)
    before = model(ads)
    torch.testing.assert_close(model(unnamed), before)
    with torch.no_grad():
        if name == "star":
            for layer in [*model.hidden, model.output]:
                layer.domain_weight[NATURAL].zero_()
                layer.domain_bias[NATURAL].fill_(9.0)
            model.domain_vectors[NATURAL].fill_(9.0)
            model.norm.domains[NATURAL].running_mean.fill_(9.0)
        else:
            for parameter in model.towers[NATURAL].parameters():
                parameter.fill_(9.0)
            gates = model.gates if name == "mmoe" else model.extraction[-1].gates
            gates[NATURAL].weight.fill_(9.0)
    assert torch.equal(model(ads), before)
    assert not torch.equal(model(dataclasses.replace(data, domain=torch.full((len(data),), NATURAL))), before)


@pytest.mark.parametrize("name", JOINT)
def test_each_domain_s_click_rate_moves_its_own_logits(name):
    model, data = lively(make(name)).eval(), batch(40)
    before = model(data)
    model.shift_logits(0.75, NATURAL)
    model.shift_logits(-2.0, AD)
    torch.testing.assert_close(model(data) - before, torch.where(data.domain == AD, -2.0, 0.75))


@pytest.mark.parametrize("name", JOINT)
def test_every_parameter_learns(name):
    model, data = lively(make(name)), batch(80)
    F.binary_cross_entropy_with_logits(model(data), data.label).backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def fit(collective, parts, model):
    model.attach(collective)
    trainer = Trainer(model, collective, TrainingConfig(dense_learning_rate=1e-2), seed=4)
    losses = []
    trainer.fit(parts, len(parts), on_step=lambda progress: losses.append(progress.loss))
    return losses


def shares(data: Batch, how: str) -> list[Batch]:
    """Two ranks' rows of a batch."""
    if how == "by domain":
        # Each rank has rows of one domain alone: the other one's heads run on it without a row.
        return [data.take((data.domain == domain).nonzero().squeeze(1)) for domain in (AD, NATURAL)]
    return [data.slice(0, 7), data.slice(7, len(data))]


@pytest.mark.parametrize("how", ["by rows", "by domain"])
@pytest.mark.parametrize("name", JOINT)
def test_two_ranks_take_the_steps_of_one(name, how):
    parts = [batch(48, seed) for seed in range(5)]
    # One step without a natural row, one without an ad, one with a single ad.
    parts[1].domain[:] = AD
    parts[2].domain[:] = NATURAL
    parts[3].domain[:] = NATURAL
    parts[3].domain[4] = AD
    alone = make(name)
    losses = fit(SingleProcess(), parts, alone)
    models = [make(name), make(name)]
    left, right = run_inline(
        2, lambda ranks: fit(ranks, [shares(part, how)[ranks.rank] for part in parts], models[ranks.rank])
    )
    assert left == right
    torch.testing.assert_close(torch.tensor(left), torch.tensor(losses), rtol=1e-4, atol=1e-5)
    for key, tensor in models[0].network_state().items():
        assert torch.equal(tensor, models[1].network_state()[key]), key
        torch.testing.assert_close(tensor, alone.network_state()[key], rtol=1e-2, atol=2e-3, msg=key)
    torch.testing.assert_close(models[0].tables.weight, alone.tables.weight, rtol=1e-2, atol=1e-3)


def test_domains_have_the_order_of_their_names():
    assert (DOMAINS[NATURAL], DOMAINS[AD]) == ("natural", "ad")
