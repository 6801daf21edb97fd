"""Every backbone against its paper's formula, written out row by row; and what all of them promise."""

import itertools
from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from ecdctr.config.schema import ModelConfig
from ecdctr.data.batch import Batch
from ecdctr.exceptions import ConfigError, TrainingError
from ecdctr.features import FeatureSet
from ecdctr.models.joint import JointModel
from ecdctr.models.registry import MODELS, build, options_of

pytestmark = pytest.mark.unit

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id", "hour"),
    number_fields=("price", "age"),
    sequence_fields={"clicked": 5, "seen": 3},
    vocabulary_of={"user_id": "user_id", "item_id": "item_id", "hour": "hour", "clicked": "item_id", "seen": "item_id"},
    fixed_rows={"hour": 26},
    oov_buckets={"user_id": 1, "item_id": 2, "hour": 1},
    attention={"clicked": "item_id", "seen": "item_id"},
)
ROWS = {"user_id": 30, "item_id": 20, "hour": 26}
JOINT = [name for name, kind in MODELS.items() if issubclass(kind, JointModel)]
FULL = [name for name in MODELS if name not in ("tiny", *JOINT)]
WITHOUT_ATTENTION = {"tiny", "dnn"}
D, ROW_COUNT = 4, 6


def make(name: str, **options):
    base = {"embedding_dim": D}
    base |= {"natural_clicks": "clicked", "ad_clicks": "seen"} if name == "minet" else {}
    base |= {} if name in ("mmoe", "ple", "minet") else {"hidden_units": [8, 6]}
    base |= {"history_dim": 3} if name in FULL else {}
    base |= {} if name in WITHOUT_ATTENTION else {"attention_hidden_units": [8]}
    return build(name, features=FEATURES, rows=ROWS, seed=5, **base | options)


def batch(rows: int = ROW_COUNT) -> Batch:
    torch.manual_seed(9)
    clicked, seen = torch.randint(1, 40, (rows, 5)), torch.randint(1, 40, (rows, 3))
    clicked[:, 3:] = 0
    seen[: rows // 2] = 0
    return Batch(
        ids=torch.randint(1, 40, (rows, 3)),
        numbers=torch.randn(rows, 2),
        sequences={"clicked": clicked, "seen": seen},
        label=torch.ones(rows),
        weight=torch.ones(rows),
        day=torch.zeros(rows, dtype=torch.int64),
        history={e: (torch.randn(rows, 2, 3), torch.rand(rows, 2) > 0.5) for e in ("user", "item")},
    )


def reference_fields(model, data: Batch, row: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Field vectors of one row, and its ids' whole table rows."""

    def whole(vocabulary: str, encoded: int) -> torch.Tensor:
        return model.tables.weight[model.tables.places(torch.tensor([encoded]), vocabulary)[0]]

    ids = [whole(v, int(i)) for v, i in zip(FEATURES.vocabularies, data.ids[row], strict=True)]
    fields = [vector[:D] for vector in ids]
    for name in FEATURES.sequence_fields:
        clicks = [whole("item_id", encoded)[:D] for encoded in data.sequences[name][row].tolist() if encoded]
        interest = torch.zeros(D)
        for k in clicks:
            q = fields[1]
            mean = not model.attentions
            weight = 1 / len(clicks) if mean else model.attentions[name].score(torch.cat([q, k, q - k, q * k])[None])[0]
            interest = interest + weight * k
        fields.append(interest)
    for entity in model.pooling:
        pooled = model.pooling[entity](data.history[entity][0][row : row + 1], data.history[entity][1][row : row + 1])[
            0
        ]
        fields.append(model.projection[entity].weight @ pooled)
    return fields, torch.stack(ids)


def reference_hidden(mlp, x: torch.Tensor, layers: int | None = None) -> torch.Tensor:
    for linear in [layer for layer in mlp.layers if isinstance(layer, torch.nn.Linear)][:layers]:
        x = torch.relu(linear.weight @ x + linear.bias)
    return x


def reference_vector(mlp, x: torch.Tensor) -> torch.Tensor:
    x = reference_hidden(mlp, x, -1)
    return mlp.layers[-1].weight @ x + mlp.layers[-1].bias


def reference_mlp(mlp, x: torch.Tensor) -> torch.Tensor:
    return reference_vector(mlp, x)[0]


def reference_cross(network, x0: torch.Tensor) -> torch.Tensor:
    x = x0
    for cross in network.crosses:
        x = x0 * (cross.weight @ x + cross.bias) + x
    return x


def reference_interacting(layer, fields: list[torch.Tensor]) -> list[torch.Tensor]:
    """Head by head and field by field; head h owns rows h·d … h·d + d - 1 of each matrix."""
    heads, dim = layer.shape
    found = []
    for m in fields:
        parts = []
        for h in range(heads):
            own = slice(h * dim, (h + 1) * dim)
            q, ks, vs = layer.query.weight[own] @ m, layer.key.weight[own], layer.value.weight[own]
            scores = torch.stack([q @ (ks @ k) for k in fields]).exp()
            parts.append(sum(score / scores.sum() * (vs @ k) for score, k in zip(scores, fields, strict=True)))
        found.append(torch.relu(torch.cat(parts) + layer.residual.weight @ m))
    return found


def reference_finalmlp(model, fields: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    gates = [2 / (1 + (-reference_vector(gate, fields[at])).exp()) for at, gate in enumerate(model.gates)]
    first, second = (reference_hidden(stream, gate * x) for stream, gate in zip(model.streams, gates, strict=True))
    logit = model.fusion.linear.bias[0] + model.fusion.linear.weight[0] @ torch.cat([first, second])
    part = model.fusion.shape[1]
    for head, matrix in enumerate(model.fusion.weight):
        own = slice(head * part, (head + 1) * part)
        logit = logit + first[own] @ matrix @ second[own]
    return logit


def reference_logit(name: str, model, data: Batch, row: int) -> torch.Tensor:
    fields, ids = reference_fields(model, data, row)
    x = torch.cat([*fields, data.numbers[row]])
    if name == "dcnv2":
        return reference_mlp(model.mlp, reference_cross(model.cross, x))
    if name == "autoint":
        numbers = [value * vector for value, vector in zip(data.numbers[row], model.number_fields.vectors, strict=True)]
        interacted = [*fields, *numbers]
        for layer in model.interacting:
            interacted = reference_interacting(layer, interacted)
        return reference_mlp(model.mlp, torch.cat(interacted)) + reference_mlp(model.deep, x)
    if name == "finalmlp":
        return reference_finalmlp(model, fields, x)
    logit = reference_mlp(model.mlp, x)
    if name == "deepfm":
        logit = logit + ids[:, D].sum() + model.number_weights.weight[0] @ data.numbers[row]
        logit = logit + sum(a @ b for a, b in itertools.combinations(fields, 2))
    return logit


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in FULL), ("finalmlp", {"fusion_heads": 3}), ("autoint", {"attention_heads": 3})],
)
def test_logits_are_the_paper_s_formula(name, options):
    model, data = make(name, batch_norm=False, **options), batch()
    # Vectors of the size they have after training, else every product is lost beside the rest.
    model.tables.weight.mul_(50)
    expected = torch.stack([reference_logit(name, model, data, row) for row in range(ROW_COUNT)])
    for training in (True, False):
        model.train(training)
        torch.testing.assert_close(model(data), expected, rtol=1e-4, atol=1e-5)


def test_parallel_dcn_reads_the_inputs_twice():
    model, data = make("dcnv2", structure="parallel", batch_norm=False), batch()
    model.tables.weight.mul_(50)
    for row in range(ROW_COUNT):
        x = torch.cat([*reference_fields(model, data, row)[0], data.numbers[row]])
        deep = x
        for linear in (layer for layer in model.deep.layers if isinstance(layer, torch.nn.Linear)):
            deep = torch.relu(linear.weight @ deep + linear.bias)
        expected = reference_mlp(model.mlp, torch.cat([reference_cross(model.cross, x), deep]))
        torch.testing.assert_close(model(data)[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(MODELS))
def test_the_same_seed_gives_the_same_model_and_leaves_the_generator(name):
    state = torch.get_rng_state()
    one, two = make(name), make(name)
    assert torch.equal(torch.get_rng_state(), state)
    for key, tensor in one.network_state().items():
        assert torch.equal(tensor, two.network_state()[key]), key
    assert torch.equal(one.tables.weight, two.tables.weight)


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("training", [True, False])
def test_no_rows_give_no_logits(name, training):
    model = make(name).train(training)
    logits = model(batch(0))
    assert logits.shape == (0,)
    if training:
        logits.sum().backward()
        assert model.tables.touched_gradients()[1].shape[0] == 0


@pytest.mark.parametrize("name", list(MODELS))
def test_network_and_tables_make_the_model_again(name):
    model, other, data = make(name), make(name), batch()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers(), model.tables.weight]:
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor))
    other.load_network_state(model.network_state())
    for vocabulary, table in model.tables.tables().items():
        assert other.tables.load_table(vocabulary, table) == 0
    assert torch.equal(model.eval()(data), other.eval()(data))


@pytest.mark.parametrize("name", FULL)
def test_every_parameter_learns(name):
    model = make(name)
    model.tables.weight.mul_(50)
    with torch.no_grad():
        for pooling in model.pooling.values():
            pooling.unknown.fill_(0.5)
    F.binary_cross_entropy_with_logits(model(batch(64)), torch.rand(64)).backward()
    silent = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_what_cannot_be_built_is_named():
    with pytest.raises(ConfigError, match="no model 'dcn'"):
        build("dcn", features=FEATURES, rows=ROWS, seed=1)
    with pytest.raises(ConfigError, match="no option depth"):
        make("dcnv2", depth=3)
    with pytest.raises(ConfigError, match="'serial'"):
        make("dcnv2", structure="serial")
    with pytest.raises(ConfigError, match="6 columns cannot be shared by 4 fusion heads"):
        make("finalmlp", fusion_heads=4)


@pytest.mark.parametrize("name", FULL)
def test_the_configuration_offers_what_the_backbone_has_and_refuses_the_rest(name):
    own = options_of(MODELS[name])
    values = {"structure": "parallel", "cross_rank": 2, "attention_hidden_units": [8], "gate_hidden_units": [8]}
    for option, field in ModelConfig.model_fields.items():
        # `embedding_dims` is of the tables, which every backbone has.
        if option in ("backbone", "embedding_dims"):
            continue
        value = values.get(option, 1 if field.default is None else field.default)
        if option in own:
            assert getattr(ModelConfig(backbone=name, **{option: value}), option) == value
        else:
            with pytest.raises(ValidationError, match=f"{option} is set, which backbone '{name}' does not have"):
                ModelConfig(backbone=name, **{option: value})
    assert get_args(ModelConfig.model_fields["backbone"].annotation) == tuple(FULL)


def test_one_amount_shifts_all_logits():
    for name in MODELS:
        model, data = make(name).eval(), batch()
        before = model(data)
        model.shift_logits(1.5)
        torch.testing.assert_close(model(data), before + 1.5, msg=name)


def test_a_batch_without_the_history_that_the_model_reads():
    data = batch()
    data.history = {}
    with pytest.raises(TrainingError, match="historical embeddings of its users"):
        make("dcnv2")(data)
