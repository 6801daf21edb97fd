"""`torch.compile`: the same training within rounding, undone afterwards, and refused where it cannot be."""

import copy

import pytest
import torch

from ecdctr.config.schema import AutoftConfig
from ecdctr.distributed.single import SingleProcess
from ecdctr.exceptions import ConfigError
from ecdctr.models.registry import build
from ecdctr.nn.normalization import DistributedBatchNorm
from ecdctr.training.compilation import _parts, compiled
from ecdctr.transfer.fine_tuning import fine_tune
from tests.unit.test_trainer import FEATURES, ROWS, STEPS, batches, new_model, trainer

pytestmark = pytest.mark.unit


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(ConfigError, match="no C\\+\\+ compiler was found"), compiled(new_model(), True):
        pass
    with compiled(new_model(), False):
        pass


def test_a_network_that_is_rerouted_while_it_runs_is_refused():
    tuned = fine_tune(new_model(), "autoft", AutoftConfig(), 1, 10)
    with pytest.raises(ConfigError, match="AutoFT reroutes"), compiled(tuned, True):
        pass


def test_every_parameter_of_a_network_but_those_of_click_attention_is_in_a_part_that_is_compiled():
    for backbone in ("dnn", "deepfm", "dcnv2", "autoint", "din", "finalmlp"):
        model = build(backbone, features=FEATURES, rows=ROWS, seed=1, history_dim=4)
        held = {id(parameter) for part in _parts(model) for parameter in part.parameters()}
        left = [name for name, parameter in model.named_parameters() if id(parameter) not in held]
        assert all(name.startswith("attentions.") for name in left), backbone


@pytest.mark.campaign
@pytest.mark.timeout(300)
@pytest.mark.parametrize("backbone", ["dcnv2", "din", "deepfm"])
def test_a_compiled_training_is_the_eager_one_within_rounding(backbone):
    model = build(backbone, features=FEATURES, rows=ROWS, seed=4, hidden_units=[1024, 8])
    twin = copy.deepcopy(model)
    eager, fast = trainer(SingleProcess(), model), trainer(SingleProcess(), twin)
    eager.fit(batches(), STEPS)
    names = list(twin.network_state())
    with compiled(twin, True):
        fast.fit(batches(), STEPS)
    assert list(twin.network_state()) == names
    assert not any(module._compiled_call_impl for module in twin.modules())
    assert all("normalise" not in vars(norm) for norm in twin.modules() if isinstance(norm, DistributedBatchNorm))
    assert fast.progress.loss == pytest.approx(eager.progress.loss, abs=1e-5)
    for name, tensor in model.network_state().items():
        torch.testing.assert_close(twin.network_state()[name], tensor, rtol=1e-3, atol=1e-5, msg=name)
    torch.testing.assert_close(twin.tables.weight, model.tables.weight, rtol=1e-3, atol=1e-5)
