"""Schedules, micro-batches, rates of copied and new parts, mixed precision: each against what it is defined by."""

import math

import pytest
import torch
from safetensors.torch import load_file

from ecdctr.config.training import TrainingConfig
from ecdctr.data.batch import Batch
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.single import SingleProcess
from ecdctr.exceptions import TrainingError
from ecdctr.features.domains import AD, NATURAL
from ecdctr.models.registry import build
from ecdctr.training.rates import Copied, RowRates, schedule
from ecdctr.training.task import Start
from ecdctr.training.trainer import Trainer
from tests.unit.test_autoft import STEPS, tuned
from tests.unit.test_autoft import batches as routed_batches
from tests.unit.test_autoft import trainer as routed_trainer
from tests.unit.test_level_autoft import Days
from tests.unit.test_row_sharding import FEATURES, ROWS, batches

pytestmark = pytest.mark.unit


def trained(settings, parts=None, copied=None, collective=None, **options):
    model = build("dcnv2", features=FEATURES, rows=ROWS, seed=4, **{"hidden_units": [8], "embedding_dim": 5} | options)
    trainer = Trainer(model, collective or SingleProcess(), TrainingConfig(**settings), seed=4, copied=copied)
    rates = []
    trainer.fit(
        batches() if parts is None else parts, 6,
        on_step=lambda progress: rates.append((trainer.dense.param_groups[0]["lr"], trainer.sparse.lr)),
    )  # fmt: skip
    return trainer, rates


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1, 1, 1, 1, 1, 1]),
        ({"schedule": "warmup", "warmup_steps": 4}, [0.25, 0.5, 0.75, 1, 1, 1]),
        ({"schedule": "cosine"}, [0.5 * (1 + math.cos(math.pi * at / 6)) for at in range(6)]),
        (
            {"schedule": "cosine", "warmup_steps": 2, "final_rate": 0.2},
            [0.5, 1, *(0.2 + 0.4 * (1 + math.cos(math.pi * at / 4)) for at in range(4))],
        ),
    ],
)
def test_both_rates_follow_the_schedule(settings, expected):
    assert [schedule(TrainingConfig(**settings), step, 6) for step in range(6)] == pytest.approx(expected)
    _, rates = trained(settings)
    assert [dense for dense, _ in rates] == pytest.approx([1e-3 * factor for factor in expected])
    assert [sparse for _, sparse in rates] == pytest.approx([2e-2 * factor for factor in expected])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"schedule": "warmup"}, "asks for warmup_steps"),
        ({"warmup_steps": 3}, "'constant' does not have"),
        ({"schedule": "warmup", "warmup_steps": 3, "final_rate": 0.1}, "final_rate is set"),
    ],
)
def test_settings_without_effect_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        TrainingConfig(**settings)


@pytest.mark.parametrize("parts", [2, 5, 40])
def test_micro_batches_take_the_steps_of_whole_batches(parts):
    whole, _ = trained({}, batch_norm=False)
    cut, _ = trained({"micro_batches": parts}, batch_norm=False)
    torch.testing.assert_close(cut.model.tables.weight, whole.model.tables.weight, rtol=1e-3, atol=1e-5)
    assert cut.progress.loss == pytest.approx(whole.progress.loss, rel=1e-4)


@pytest.mark.parametrize("parts", [2, 4, 40])
def test_every_micro_batch_has_its_share_of_each_domain(parts):
    (data,) = batches(1)
    data.domain, data.day = torch.tensor([AD] * 16 + [NATURAL] * 8), torch.arange(24)
    trainer, _ = trained({"micro_batches": parts}, parts=[])
    seen: list[Batch] = []
    trainer.model.register_forward_pre_hook(lambda model, given: seen.append(given[0]))
    trainer.fit([data], 1)
    assert len(seen) == parts
    assert sorted(torch.cat([part.day for part in seen]).tolist()) == list(range(24))
    for domain in (AD, NATURAL):
        shares = [int((part.domain == domain).sum()) for part in seen]
        assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize("kind", ["autoft", "autoft_random"])
def test_micro_batches_are_parts_of_one_step_of_the_policy(kind):
    chosen = {}
    for parts in (1, 3):
        made = routed_trainer(SingleProcess(), tuned(kind), micro_batches=parts)
        policy, steps, taken = made.model.policy, [], []
        whole = policy.decide

        def decide(seen, keys, step, whole=whole, steps=steps, taken=taken):
            steps.append(step)
            taken.append(whole(seen, keys, step))
            return taken[-1]

        policy.decide = decide
        made.fit(routed_batches(), STEPS)
        assert steps == [step for step in range(STEPS) for _ in range(parts)]
        assert int(policy.steps) == STEPS
        chosen[parts] = [choice.taken.detach() for choice in taken]
    # Coins are the row's and the step's alone; what is learned differs by the rows that normalisation sees.
    for step in range(STEPS if kind == "autoft_random" else 1):
        for part in range(3):
            assert torch.equal(chosen[1][step][part::3], chosen[3][step * 3 + part])


def test_ranks_with_micro_batches_and_sharded_tables_end_alike():
    def share(collective):
        model = build("dcnv2", features=FEATURES, rows=ROWS, seed=4, hidden_units=[8], embedding_dim=5)
        model.attach(collective)
        if collective.rank >= 0:
            model.tables.shard(["item_id"], collective)
        trainer = Trainer(model, collective, TrainingConfig(micro_batches=3), seed=4)
        trainer.fit([batch.slice(0, 2) if collective.rank else batch.slice(2, 24) for batch in batches()], 6)
        return trainer.progress.loss, trainer.model.tables.table("user_id")

    (one, left), (other, right) = run_inline(2, share)
    assert one == other
    assert torch.equal(left, right)


def test_copied_and_new_parts_learn_at_their_own_rates():
    copied = Copied(frozenset({"mlp.layers.0.weight"}), {"user_id": 20, "item_id": 26})
    before, _ = trained({}, parts=[])
    kept, _ = trained({"copied_rate": 0.0}, copied=copied)
    names = {
        name
        for (name, old), new in zip(before.model.named_parameters(), kept.model.parameters(), strict=True)
        if torch.equal(old, new)
    }
    assert names == {"mlp.layers.0.weight"}
    moved = {name: (kept.model.tables.table(name) != before.model.tables.table(name)).any(1) for name in ROWS}
    assert not moved["item_id"].any()
    assert not moved["user_id"][:20].any()
    assert moved["user_id"][20:].any()
    plain, _ = trained({})
    same, _ = trained({"copied_rate": 1.0, "new_rate": 1.0}, copied=copied)
    assert torch.equal(plain.model.tables.weight, same.model.tables.weight)
    half, _ = trained({"copied_rate": 0.5, "new_rate": 0.5}, copied=copied)
    slow, _ = trained({"dense_learning_rate": 5e-4, "sparse_learning_rate": 1e-2})
    assert torch.equal(half.model.tables.weight, slow.model.tables.weight)


def test_rows_are_told_apart_wherever_they_lie():
    def share(collective):
        model = build("dcnv2", features=FEATURES, rows=ROWS, seed=4, hidden_units=[8], embedding_dim=5)
        model.tables.shard(["user_id"], collective)
        rates = RowRates(model, {"user_id": 20})
        new = model.tables.split(rates.new(torch.arange(model.tables.layout.local_rows)))
        assert new["item_id"].all()
        assert new["user_id"].tolist() == [row >= 20 for row in range(41)][collective.rank :: 2]

    run_inline(2, share)


def test_mixed_precision_learns_the_same_up_to_its_digits():
    exact, _ = trained({})
    mixed, _ = trained({"autocast": "bfloat16"})
    assert mixed.model.tables.weight.dtype == torch.float32
    assert mixed.progress.loss == pytest.approx(exact.progress.loss, rel=2e-2)
    assert mixed.progress.loss != exact.progress.loss


def test_what_came_from_cpm_is_known_to_the_days_that_go_on(tmp_path):
    days = Days(tmp_path)
    cpm = days.train(days.task("cpm", 0, Start(kind="scratch"), policy=None))
    first = days.train(days.task("day1", 1, days.start("warm", "cpm", batch_norm="full")))
    grown = days.task("day2", 2, days.start("continue", "day1"), {"user_id": 40, "item_id": 30})
    second = days.train(grown)
    assert cpm["copied"] is None
    assert first["copied"] == second["copied"]
    assert first["copied"]["rows"] == {"user_id": 40, "item_id": 25}
    copied = set(first["copied"]["parameters"])
    assert "tuned.mlp.layers.0.weight" in copied
    assert not [name for name in copied if name.startswith("policy.")]
    # Normalisation was made anew.
    assert "tuned.mlp.layers.1.weight" not in copied


def test_rows_that_cpm_has_often_moved_move_less_where_the_state_of_its_tables_is_taken_over(tmp_path):
    days = Days(tmp_path)
    days.train(days.task("cpm", 0, Start(kind="scratch"), policy=None))
    grown, moved = {"user_id": 40, "item_id": 30}, {}
    for state in ("fresh", "copied"):
        start = days.start("warm", "cpm", batch_norm="full", table_state=state)
        days.train(days.task(state, 1, start, grown, policy=None))
        own = [load_file(days.folder(version) / "tables.safetensors")["item_id"][3:25] for version in ("cpm", state)]
        moved[state] = (own[1] - own[0]).abs().mean().item()
    assert 0 < moved["copied"] < 0.8 * moved["fresh"]
    other = {"training": TrainingConfig(batch_size=32, sparse_optimizer="ftrl")}
    task = days.task("other", 1, days.start("warm", "cpm", table_state="copied"), policy=None)
    with pytest.raises(TrainingError, match="no state of ftrl"):
        days.train(task.model_copy(update=other))
