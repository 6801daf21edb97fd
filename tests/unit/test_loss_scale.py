"""float16 with a scaled loss: the steps of float32, and a step that overflows on one rank is no step on any."""

import pytest
import torch

from ecdctr.config.training import TrainingConfig
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.single import SingleProcess
from ecdctr.training.loss_scale import FIRST, GROWTH_STEPS, LARGEST, LossScale
from ecdctr.training.trainer import Trainer
from tests.unit.test_autoft import batches as routed_batches
from tests.unit.test_autoft import tuned
from tests.unit.test_trainer import batches, new_model

pytestmark = pytest.mark.unit


def trainer(collective, model=None, **settings) -> Trainer:
    model = model or new_model()
    model.attach(collective)
    return Trainer(model, collective, TrainingConfig(dense_learning_rate=1e-2, **settings), seed=4)


def test_the_factor_falls_at_once_and_rises_slowly_within_its_bounds():
    scale = LossScale(True, 1)
    scale.update(True)
    assert (scale.factor, scale.skipped) == (FIRST / 2, 1)
    for _ in range(GROWTH_STEPS):
        scale.update(False)
    assert scale.factor == FIRST
    for _ in range(20 * GROWTH_STEPS):
        scale.update(False)
    assert scale.factor == LARGEST
    for _ in range(40):
        scale.update(True)
    assert scale.factor == 1.0
    again = LossScale(True, 1)
    again.restore(scale.state())
    assert vars(again) == vars(scale)
    assert LossScale(True, 1000).factor == LossScale(True, 1024).factor == FIRST / 1024
    off = LossScale(False, 1)
    off.update(True)
    assert (off.factor, off.skipped) == (1.0, 0)


@pytest.mark.parametrize(("autocast", "tolerance"), [("bfloat16", 2e-2), ("float16", 1e-2)])
def test_sixteen_bits_learn_what_thirty_two_do(autocast, tolerance):
    many = [batch for seed in range(3) for batch in batches(seed)[:-1]]
    plain, short = trainer(SingleProcess()), trainer(SingleProcess(), autocast=autocast)
    assert plain.fit(many, len(many)).loss == pytest.approx(short.fit(many, len(many)).loss, abs=tolerance)
    # Products of 16 bits, parameters and sums of 32.
    assert plain.progress.loss != short.progress.loss
    assert {parameter.dtype for parameter in short.model.parameters()} == {torch.float32}
    assert (short.loss_scale.factor, short.loss_scale.skipped) == (FIRST / 1024 if autocast == "float16" else 1.0, 0)


def test_an_overflow_on_one_rank_skips_the_step_on_all_and_a_resumed_run_knows_of_it():
    models = [new_model(), new_model()]

    def share(collective):
        made = trainer(collective, models[collective.rank], autocast="float16")
        before = [parameter.clone() for parameter in made.parameters]
        rows = made.model.tables.weight.clone()
        if collective.rank == 1:
            handle = made.parameters[0].register_hook(lambda gradient: gradient * float("inf"))
        cut = [batch.slice(collective.rank, collective.rank + 4) for batch in batches()[:3]]
        made.fit(cut[:1], 3)
        unmoved = all(torch.equal(old, new) for old, new in zip(before, made.parameters, strict=True))
        unmoved = unmoved and torch.equal(rows, made.model.tables.weight)
        if collective.rank == 1:
            handle.remove()
        state = made.state()
        again = trainer(collective, autocast="float16")
        again.restore(1, *state)
        made.fit(cut[1:], 3)
        moved = not torch.equal(before[0], made.parameters[0])
        return unmoved, moved, made.loss_scale.factor, made.loss_scale.skipped, again.loss_scale.factor

    assert run_inline(2, share) == [(True, True, FIRST / 2048, 1, FIRST / 2048)] * 2


def test_a_step_that_overflows_is_none_of_the_policy_s():
    made = trainer(SingleProcess(), tuned(), autocast="float16")
    handle = made.parameters[0].register_hook(lambda gradient: gradient * float("inf"))
    made.fit(routed_batches()[:1], 3)
    assert (made.loss_scale.skipped, int(made.model.policy.steps)) == (1, 0)
    handle.remove()
    made.fit(routed_batches()[1:3], 3)
    assert (made.loss_scale.skipped, int(made.model.policy.steps)) == (1, 2)
