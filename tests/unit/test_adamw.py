"""Our AdamW against torch's own, to the bit; and that no rank imports torch's compiler for it."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from ecdctr.training.adamw import AdamW

pytestmark = pytest.mark.unit


def test_it_is_torch_s_own_to_the_bit_with_groups_schedules_and_state():
    generator = torch.Generator().manual_seed(2)
    shapes = [(300, 70), (70,), (1,), (2, 3, 5)]
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    ours, theirs = ([nn.Parameter(value.clone()) for value in values] for _ in range(2))
    mine = AdamW([{"params": ours[:2]}, {"params": ours[2:]}], weight_decay=0.1)
    own = torch.optim.AdamW([{"params": theirs[:2]}, {"params": theirs[2:]}], weight_decay=0.1, fused=True)
    for step in range(6):
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(one.shape, generator=generator)
            # One parameter has no gradient at first.
            one.grad = other.grad = None if place == 1 and step < 2 else gradient
        for optimizer in (mine, own):
            for group, factor in zip(optimizer.param_groups, (1.0, 0.3), strict=True):
                group["lr"] = 0.01 * factor * (step + 1)
            optimizer.step()
        if step == 3:
            mine.state = {
                parameter: {k: v.clone() for k, v in state.items()} for parameter, state in mine.state.items()
            }
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
        for key in ("step", "exp_avg", "exp_avg_sq"):
            assert torch.equal(mine.state[one][key], own.state[other][key])


def test_training_does_not_import_torch_s_compiler():
    code = (
        "import sys; from tests.unit.test_trainer import *; "
        "trainer(SingleProcess()).fit(batches(), STEPS); "
        "print(sorted({'torch._dynamo', 'torch._inductor', 'triton', 'sympy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
