"""Batch norm after a re-initialisation: running statistics begin as those of the rows to come, and nothing else moves."""

import pytest
import torch
from torch import nn

from ecdctr.config.schema import AutoftConfig
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.single import SingleProcess
from ecdctr.nn.normalization import DistributedBatchNorm
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.levels import Levels
from ecdctr.transfer.fine_tuning import fine_tune, start_from
from ecdctr.transfer.warmup import warm_batch_norm
from tests.unit.test_autoft import backbone, batches, pretrained
from tests.unit.test_frozen_tower import batch as sequence_batch
from tests.unit.test_frozen_tower import natural_model, tower
from tests.unit.test_levels_baselines import Ledger, day

pytestmark = pytest.mark.unit


def started(batch_norm: str = "full", policy: str = "full", dropout: float = 0.0):
    source = pretrained(dropout=dropout)
    model = fine_tune(backbone(dropout=dropout), policy, AutoftConfig(), seed=4)
    start_from(model, source.network_state(), source.tables.tables(), batch_norm)
    return model


def state(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.network_state().items()}


def test_averaging_is_torch_s_cumulative_average():
    torch.manual_seed(2)
    ours, theirs = DistributedBatchNorm(3), nn.BatchNorm1d(3, momentum=None)
    ours.averaging = True
    for rows in (5, 40, 2, 17):
        x = torch.randn(rows, 3) * 3 + 7
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-4, atol=1e-5)


def test_the_first_layer_s_statistics_are_those_of_its_inputs_over_the_given_batches():
    model, rows = started(), batches(seed=6, steps=3)
    assert warm_batch_norm(model, rows, SingleProcess(), seed=1) == 3
    inputs: list[torch.Tensor] = []
    norm = model.mlp.layers[1]
    handle = norm.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    with torch.no_grad():
        for batch in rows:
            model.eval()(batch)
    handle.remove()
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean(0) for x in inputs]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var(0) for x in inputs]).mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_norm", ["statistics", "full"])
@pytest.mark.parametrize("policy", ["full", "autoft"])
def test_running_statistics_change_and_nothing_else(batch_norm, policy):
    model = started(batch_norm, policy)
    before, tables = state(model), model.tables.weight.clone()
    frozen = state(model.frozen) if policy == "autoft" else {}
    mode = model.training
    warm_batch_norm(model, batches(seed=6), SingleProcess(), seed=1)
    changed = {name for name, tensor in model.network_state().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert {name.rsplit(".", 1)[1] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}
    assert torch.equal(model.tables.weight, tables)
    assert model.training == mode
    assert all(
        torch.equal(tensor, frozen[name]) for name, tensor in (model.frozen.network_state() if frozen else {}).items()
    )
    assert not any(module.averaging for module in model.modules() if isinstance(module, DistributedBatchNorm))


def test_a_training_step_is_what_it_is_without_and_a_score_is_not():
    cold, warm = started(dropout=0.2), started(dropout=0.2)
    warm_batch_norm(warm, batches(seed=6), SingleProcess(), seed=1)
    (batch,) = batches(seed=5, steps=1)
    logits, gradients, scores = [], [], []
    for model in (cold, warm):
        torch.manual_seed(8)
        logits.append(model.train()(batch))
        logits[-1].square().sum().backward()
        gradients.append(model.cross.crosses[0].weight.grad)
        scores.append(model.eval()(batch))
    torch.testing.assert_close(*logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=1e-4)
    assert (scores[0] - scores[1]).abs().mean() > 0.05


def test_ranks_see_the_joined_rows_and_end_with_one_state():
    rows = batches(seed=6)
    whole = started()
    warm_batch_norm(whole, rows, SingleProcess(), seed=1)

    def share(collective):
        model = started()
        model.attach(collective)
        # The second rank has no row of the last batch.
        parts = [
            batch.slice(0, 20 if len(batch) > 1 else 1) if collective.rank == 0 else batch.slice(20, 32)
            for batch in rows
        ]
        assert warm_batch_norm(model, parts, collective, seed=1) == len(rows)
        return state(model)

    left, right = run_inline(2, share)
    for name, tensor in whole.network_state().items():
        assert torch.equal(left[name], right[name]), name
        torch.testing.assert_close(left[name], tensor, rtol=1e-4, atol=1e-5)


def test_levels_ask_for_it_where_statistics_begin_anew():
    def asked(arm: str, *overrides: str) -> list[int]:
        ledger = Ledger("transfer.batch_norm_warmup_batches=5", *overrides)
        levels = Levels(ledger, ledger)
        levels.tpm(day(9))
        levels.cpm(day(10), ARMS[arm].twin(ledger.config))
        for offset in (10, 11):
            levels.actr(day(offset), ARMS[arm], score=True)
        assert [task.warmup_batches for task in ledger.tasks[:2]] == [0, 0]
        return [task.warmup_batches for task in ledger.tasks[2:]]

    for arm in ("ecdctr", "ecdctr_bn_statistics", "target_only", "star", "frozen_tower"):
        assert asked(arm) == [5, 0], arm
    assert asked("ecdctr_bn_keep") == asked("finetune") == asked("ecdctr_bn_cold") == [0, 0]
    assert asked("ecdctr", "transfer.batch_norm_warmup=false") == [0, 0]


def test_a_frozen_tower_keeps_the_statistics_that_it_came_with():
    model = tower(natural_model())
    before = state(model)
    warm_batch_norm(model, [sequence_batch(48, seed) for seed in range(3)], SingleProcess(), seed=1)
    changed = {name for name, tensor in model.network_state().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert not [name for name in changed if name.startswith("source.")]
