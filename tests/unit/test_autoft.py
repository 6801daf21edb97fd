"""AutoFT around every backbone: at its two ends it is a model that is known; in between, what is frozen stays frozen."""

from functools import cache

import pytest
import torch
from torch.nn import functional as F

from ecdctr.artifacts.parameters import parameter_digest
from ecdctr.config.schema import AutoftConfig
from ecdctr.config.training import TrainingConfig
from ecdctr.data.batch import Batch
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.single import SingleProcess
from ecdctr.exceptions import TemporaryError, TrainingError
from ecdctr.features import FeatureSet
from ecdctr.models.full import FullModel
from ecdctr.models.registry import MODELS, build, options_of
from ecdctr.nn.policy import FixedPolicy
from ecdctr.training.trainer import Trainer
from ecdctr.transfer.autoft import AutoFT, decisions, detached_copy
from ecdctr.transfer.fine_tuning import fine_tune, start_from
from ecdctr.transfer.parameter_map import warm_start
from ecdctr.transfer.policy_statistics import PolicyStatistics

pytestmark = pytest.mark.unit

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id", "hour"),
    number_fields=("price",),
    sequence_fields={"clicked": 4},
    vocabulary_of={"user_id": "user_id", "item_id": "item_id", "hour": "hour", "clicked": "item_id"},
    fixed_rows={"hour": 26},
    oov_buckets={"user_id": 1, "item_id": 1, "hour": 1},
    attention={"clicked": "item_id"},
)
ROWS = {"user_id": 40, "item_id": 25, "hour": 26}
# Models of both domains at once have no pre-trained twin, and read no historical embeddings.
FULL = [name for name, model in MODELS.items() if "history_dim" in options_of(model)]
STEPS = 8
KINDS = ["freeze", "autoft_field", "autoft_layer", "autoft", "autoft_random"]


def batches(seed: int = 0, steps: int = STEPS) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for step in range(steps):
        rows = 1 if step == STEPS - 1 else 32
        ids = torch.stack([torch.randint(3, n, (rows,), generator=generator) for n in ROWS.values()], 1)
        made.append(
            Batch(
                ids=ids,
                numbers=torch.randn(rows, 1, generator=generator),
                sequences={"clicked": torch.randint(0, 25, (rows, 4), generator=generator)},
                label=((ids[:, 1] % 3) == 0).float(),
                weight=torch.ones(rows),
                day=torch.zeros(rows, dtype=torch.int64),
                history={
                    e: (torch.randn(rows, 2, 3, generator=generator), torch.rand(rows, 2, generator=generator) > 0.4)
                    for e in ("user", "item")
                },
            )
        )
    return made


def backbone(name: str = "dcnv2", seed: int = 4, rows=ROWS, **options) -> FullModel:
    return build(
        name, features=FEATURES, rows=rows, seed=seed, history_dim=3, embedding_dim=4, hidden_units=[16, 8], **options
    )


def pretrained(name: str = "dcnv2", dropout: float = 0.0) -> FullModel:
    """A backbone as CPM leaves it: every parameter, running statistic and row moved."""
    return detached_copy(_pretrained(name, dropout))


@cache
def _pretrained(name: str, dropout: float) -> FullModel:
    model = backbone(name, seed=9, dropout=dropout)
    trainer(SingleProcess(), model).fit(batches(seed=7), STEPS)
    model.tables.weight.mul_(20)
    return model


def trainer(collective, model, **settings) -> Trainer:
    model.attach(collective)
    return Trainer(model, collective, TrainingConfig(checkpoint_steps=3, dense_learning_rate=1e-2, **settings), seed=4)


def fixed(model: FullModel, taken: float) -> AutoFT:
    names = decisions(model)
    return AutoFT(model, FixedPolicy([taken] * len(names)), names)


def tuned(kind: str = "autoft", name: str = "dcnv2", source: FullModel | None = None, batch_norm="full", **settings):
    source = source or pretrained(name)
    model = fine_tune(backbone(name), kind, AutoftConfig(**settings), seed=4)
    start_from(model, source.network_state(), source.tables.tables(), batch_norm)
    return model


def states(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in (model.network_state() | model.tables.tables()).items()}


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", FULL)
def test_policies_of_one_are_full_fine_tuning_bit_for_bit(name, dropout):
    source = pretrained(name, dropout=dropout)
    plain = backbone(name, dropout=dropout)
    warm_start(plain, source.network_state(), source.tables.tables(), "full")
    model = fixed(backbone(name, dropout=dropout), 1.0)
    start_from(model, source.network_state(), source.tables.tables(), "full")
    losses: list[list[float]] = [[], []]
    for found, one in zip(losses, (plain, model), strict=True):
        trainer(SingleProcess(), one).fit(batches(), STEPS, on_step=lambda progress, to=found: to.append(progress.loss))
    assert losses[0] == losses[1]
    assert_same(states(plain), states(model.tuned))
    data = batches(seed=3)[0]
    assert torch.equal(plain.eval()(data), model.eval()(data))


@pytest.mark.parametrize("name", FULL)
def test_policies_of_zero_are_the_frozen_model_bit_for_bit(name):
    source = pretrained(name)
    model = fixed(backbone(name), 0.0)
    start_from(model, source.network_state(), source.tables.tables(), "full")
    before = states(model.tuned)
    trainer(SingleProcess(), model).fit(batches(), STEPS)
    data = batches(seed=3)[0]
    assert torch.equal(model.eval()(data), source.eval()(data))
    # Nor has any row or weight learned: no gradient reaches a way that is not taken.
    after = states(model.tuned)
    learned = [name for name in before if "running" not in name and "batches" not in name]
    assert_same({n: before[n] for n in learned}, {n: after[n] for n in learned})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FULL)
def test_frozen_parameters_buffers_and_rows_stay_bit_for_bit_while_the_rest_learns(name, kind):
    source = pretrained(name)
    model = tuned(kind, name, source)
    before = states(model)
    trainer(SingleProcess(), model).fit(batches(), STEPS)
    assert_same(states(source), states(model.frozen))
    assert not any(parameter.requires_grad for parameter in model.frozen.parameters())
    after = states(model)
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    if kind == "freeze":
        learned = {n for n in moved if "running" not in n and "batches" not in n and n != "policy.steps"}
        assert learned
        assert all(tensor.shape[0] == 1 for n, tensor in after.items() if n in learned)
    elif kind != "autoft_random":
        assert any(n.startswith("policy.network") for n in moved)
    if kind != "freeze":
        assert {"user_id", "item_id"} <= moved
    frozen_names = [n for n in model.state_dict() if "frozen" in n]
    assert not frozen_names


@pytest.mark.parametrize("name", FULL)
def test_each_choice_sends_its_own_field_or_layer_and_no_other(name):
    """One decision at a time against the two pure models, with the mixture written out by hand for the fields."""
    source, target = pretrained(name), pretrained(name)
    for tensor in [*target.parameters(), target.tables.weight]:
        tensor.data.mul_(1.3)
    names, data = decisions(target), batches(seed=3)[0]
    pure = target.eval()(data)
    fields, weights = source.eval().inputs(data)
    for at, decision in enumerate(names):
        model = AutoFT(target, FixedPolicy([float(at != other) for other in range(len(names))]), names, frozen=source)
        logits = model.eval()(data)
        assert not torch.equal(logits, pure), decision
        if decision.startswith("field."):

            def by_hand(made, at=at):
                vectors, first = made[0].clone(), made[1].clone()
                vectors[:, at] = fields[:, at]
                if at < first.shape[1]:
                    first[:, at] = weights[:, at]
                return vectors, first

            target.reroute = by_hand
            expected = target(data)
            target.reroute = None
        else:
            layer = decision.removeprefix("layer.")
            kept = {n: t.clone() for n, t in target.layers()[layer].state_dict().items()}
            target.layers()[layer].load_state_dict(source.layers()[layer].state_dict())
            expected = target(data)
            target.layers()[layer].load_state_dict(kept)
        assert torch.equal(logits, expected), decision


def test_rows_are_routed_one_by_one():
    source, target = pretrained(), pretrained()
    target.tables.weight.mul_(-1)
    names = decisions(target)

    class Alternating(FixedPolicy):
        def decide(self, seen, keys, step):
            choice = super().decide(seen, keys, step)
            odd = (torch.arange(len(seen)) % 2).float().unsqueeze(1)
            return type(choice)(choice.taken * odd, choice.probability)

    model = AutoFT(target, Alternating([1.0] * len(names)), names, frozen=source).eval()
    data = batches(seed=3)[0]
    logits = model(data)
    torch.testing.assert_close(logits[::2], source.eval()(data)[::2], rtol=0, atol=0)
    torch.testing.assert_close(logits[1::2], target.eval()(data)[1::2], rtol=0, atol=0)


def test_evaluation_is_deterministic_and_the_backbone_is_left_as_it_was():
    model, data = tuned().eval(), batches(seed=3)[0]
    first = model(data)
    torch.manual_seed(99)
    assert torch.equal(model(data), first)
    part = model(data.slice(3, 9))
    torch.testing.assert_close(part, first[3:9])
    assert model.tuned.reroute is None
    assert not any(module._forward_hooks for module in [*model.tuned.modules(), *model.frozen.modules()])


@pytest.mark.parametrize("kind", ["autoft_field", "autoft_layer", "autoft", "autoft_random"])
@pytest.mark.parametrize("name", FULL)
def test_two_ranks_take_the_steps_of_one(name, kind):
    def fit(collective, parts, model):
        losses: list[float] = []
        made = trainer(collective, model)
        made.fit(parts, len(parts), on_step=lambda progress: losses.append(progress.loss))
        return losses, parameter_digest(states(model) | made.optimizer_state())

    source = pretrained(name)
    models = [tuned(kind, name, source, cost=0.05) for _ in range(3)]
    alone, _ = fit(SingleProcess(), batches(), models[2])

    def share(collective):
        cut = [batch.slice(0, 5) if collective.rank == 0 else batch.slice(5, len(batch)) for batch in batches()]
        return fit(collective, cut, models[collective.rank])

    (left, left_digest), (right, right_digest) = run_inline(2, share)
    assert left == right
    assert left_digest == right_digest
    torch.testing.assert_close(torch.tensor(left), torch.tensor(alone), rtol=1e-4, atol=1e-5)
    # A unit whose input lies within rounding of the ReLU's kink hands its gradient on in one order of summing and not in
    # the other: that is one row of one step, while a fault of the exchange would move the rows of a whole batch.
    apart = ~torch.isclose(models[0].tables.weight, models[2].tables.weight, rtol=1e-3, atol=1e-5).all(1)
    assert apart.sum() <= 1


@pytest.mark.parametrize("kind", ["autoft", "autoft_random"])
def test_resume_equals_the_unbroken_run_bit_for_bit(kind):
    source = pretrained(dropout=0.2)

    def fresh():
        model = fine_tune(backbone(dropout=0.2), kind, AutoftConfig(temperature_steps=6), seed=4)
        start_from(model, source.network_state(), source.tables.tables(), "full")
        return trainer(SingleProcess(), model)

    unbroken = fresh()
    unbroken.fit(batches(), STEPS)
    first, saved = fresh(), {}

    def save(progress):
        tensors, record = first.state()
        saved["at"] = (progress.step, {name: tensor.clone() for name, tensor in tensors.items()}, record)

    asked = iter([False, False, False, False, True])
    with pytest.raises(TemporaryError):
        first.fit(batches(), STEPS, stop_requested=lambda: next(asked), save=save)
    second = fresh()
    second.restore(*saved["at"])
    second.fit(batches()[second.progress.step :], STEPS)
    assert int(second.model.policy.steps) == STEPS
    assert_same(states(unbroken.model) | unbroken.optimizer_state(), states(second.model) | second.optimizer_state())


def test_a_cost_sends_fewer_rows_the_tuned_way_and_is_no_part_of_the_reported_loss():
    source, many = pretrained(), [batch for seed in range(10) for batch in batches(seed, STEPS - 1)]
    shares = []
    for cost in (0.0, 2.0):
        model = tuned(source=source, cost=cost)
        seen: list[float] = []
        trainer(SingleProcess(), model).fit(many, len(many), on_step=lambda progress, to=seen: to.append(progress.loss))
        model.eval()(batches(seed=30)[0])
        shares.append(model.choice.probability.mean().item())
    assert shares[1] < 0.2 < shares[0]
    # The first step is taken before anything is learned: its reported loss is the log loss alone.
    model, data = tuned(source=source, cost=2.0), batches()[0]
    expected = F.binary_cross_entropy_with_logits(model.train()(data), data.label).item()
    made = trainer(SingleProcess(), tuned(source=source, cost=2.0))
    assert made.fit([data], 1).loss == pytest.approx(expected, rel=1e-6)


def test_the_cost_is_the_mean_probability_of_the_tuned_way_row_by_row():
    model, data = tuned(cost=0.3), batches()[0]
    model.train()(data)
    seen = model.frozen.inputs(data)[0].flatten(1)
    logits = model.policy.logits(seen).detach().double().exp()
    expected = 0.3 * (logits[..., 1] / logits.sum(-1)).mean(1)
    torch.testing.assert_close(model.penalty().detach().double(), expected, rtol=1e-5, atol=1e-7)
    assert model.penalty().shape == (len(data),)
    with torch.no_grad():
        model.eval()(data)
    assert model.penalty() is None
    free = tuned(cost=0.0)
    free.train()(data)
    assert free.penalty() is None


def test_training_lowers_the_loss():
    model = tuned(temperature_steps=50)
    many = [batch for seed in range(12) for batch in batches(seed, STEPS - 1)]
    progress = trainer(SingleProcess(), model).fit(many, len(many))
    assert progress.curve[-1][1] < progress.curve[0][1] - 0.05


def test_a_shift_of_the_click_rate_reaches_both_ways():
    for taken in (0.0, 1.0):
        model, data = fixed(pretrained(), taken).eval(), batches()[0]
        before = model(data)
        model.shift_logits(-1.5)
        torch.testing.assert_close(model(data), before - 1.5)


def test_rows_that_a_vocabulary_has_gained_begin_equal_in_both_ways():
    grown = ROWS | {"item_id": 60}
    source = pretrained()
    model = fine_tune(backbone(rows=grown), "autoft", AutoftConfig(), seed=4)
    report = start_from(model, source.network_state(), source.tables.tables(), "full")
    assert report.grown == ["tables.item_id"]
    fresh = backbone(rows=grown).tables.table("item_id")[25:]
    for way in (model.tuned, model.frozen):
        assert torch.equal(way.tables.table("item_id")[25:], fresh)
        assert torch.equal(way.tables.table("item_id")[:25], source.tables.table("item_id"))


def test_batch_norm_begins_anew_in_the_tuned_way_alone():
    source = pretrained()
    model = tuned(source=source, batch_norm="full")
    assert_same(states(source), states(model.frozen))
    norms = {n: t for n, t in model.tuned.network_state().items() if n.endswith("running_var")}
    assert norms
    assert all((tensor == 1).all() for tensor in norms.values())


def test_a_parameter_that_no_choice_reaches_is_refused():
    model = backbone()
    model.loose = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(TrainingError, match="no field and no layer: loose"):
        decisions(model)


def test_decisions_are_the_fields_and_the_layers_in_order():
    names = decisions(backbone("deepfm"))
    fields = ["user_id", "item_id", "hour", "clicked", "history.user", "history.item"]
    layers = ["mlp.0", "mlp.1", "mlp.2", "number_weights"]
    assert names == [*(f"field.{name}" for name in fields), *(f"layer.{name}" for name in layers)]
    assert decisions(backbone("dcnv2"), fields=False) == [
        f"layer.{name}" for name in ("cross.0", "cross.1", "mlp.0", "mlp.1", "mlp.2")
    ]


def test_statistics_count_choices_by_the_user_s_rows_over_all_ranks():
    data = Batch.concat(batches(seed=3, steps=3))
    data.user = [f"u{number % 7 if number < 40 else number}" for number in range(len(data))]
    source = pretrained()
    models = [tuned("autoft_random", source=source).eval() for _ in range(3)]
    models[2](data)
    taken = models[2].choice.taken
    rows = torch.tensor([data.user.count(user) for user in data.user])
    expected = {"1": rows == 1, "5-9": (rows > 4) & (rows < 10)}
    expected = {name: taken[part].double().mean(0).tolist() for name, part in expected.items() if part.any()}

    def share(collective):
        part = data.slice(0, 11) if collective.rank == 0 else data.slice(11, len(data))
        statistics = PolicyStatistics(models[collective.rank], int(data.day[-1]))
        for half in (part.slice(0, 4), part.slice(4, len(part)), part.slice(0, 0)):
            models[collective.rank](half)
            statistics.add(half)
        return statistics.gather(collective)

    left, right = run_inline(2, share)
    assert left == right
    assert left["decisions"] == models[2].names
    assert left["rows"] == {"1": 56, "5-9": 40}
    for name, shares in expected.items():
        assert left["tuned"][name] == pytest.approx(shares)
    assert PolicyStatistics(models[2]).gather(SingleProcess())["rows"] == {}
    # Rows of the day before, the only ones of the first rank, do not count, nor in the activity of this user.
    data.day[:40], data.user[40] = -1, "u0"
    later, _ = run_inline(2, share)
    assert (later["rows"], later["tuned"]["1"]) == ({"1": 56}, pytest.approx(taken[40:].double().mean(0).tolist()))
