"""On a GPU the same code: what can be seen without one is seen here, the rest where one is at hand."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ecdctr.config.schema import AutoftConfig
from ecdctr.config.training import TrainingConfig
from ecdctr.data.batch import Batch
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.single import SingleProcess
from ecdctr.distributed.through_host import ThroughHost, for_device
from ecdctr.exceptions import ConfigError, TrainingError
from ecdctr.models.registry import build
from ecdctr.nn.distinct import distinct, distinct_by_sorting
from ecdctr.training.device import device_of, move
from ecdctr.training.trainer import Trainer
from ecdctr.transfer.fine_tuning import fine_tune
from tests.unit.test_trainer import FEATURES, ROWS, STEPS, batches, fit, new_model

pytestmark = pytest.mark.unit

CUDA = torch.device("cuda", 0)
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that this torch can use")
FULL = ("dnn", "deepfm", "dcnv2", "autoint", "din", "finalmlp")


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="finds no GPU on this machine"):
        device_of("cuda", 0)
    assert device_of("cpu", 3) == torch.device("cpu")


def test_tables_in_use_stay_where_they_are():
    model = new_model()
    assert model.tables.weight.is_cpu
    with pytest.raises(TrainingError, match="cannot be moved"):
        move(model, torch.device("meta"))


@pytest.mark.parametrize("count", [0, 1, 500])
def test_grouping_by_sorting_is_grouping(count):
    places = torch.randint(0, 60, (count,), generator=torch.Generator().manual_seed(1))
    for one, other in zip(vars(distinct(places)).values(), vars(distinct_by_sorting(places)).values(), strict=True):
        assert torch.equal(one, other)


def test_what_goes_through_the_host_arrives_as_it_would_without():
    """Two ranks train through it, with sharded tables: every operation of a step."""

    def share(collective, wrap):
        ranks = ThroughHost(collective) if wrap else collective
        model = models[wrap][collective.rank]
        model.tables.shard(["user_id"], ranks)
        cut = [batch.slice(0, 5) if ranks.rank == 0 else batch.slice(5, len(batch)) for batch in batches()]
        losses, _, _ = fit(ranks, cut, model)
        return losses, ranks.all_gather_json(ranks.rank), ranks.broadcast_(torch.tensor([ranks.rank]), 1).item()

    models = {wrap: [new_model(), new_model()] for wrap in (False, True)}
    plain, through = (run_inline(2, lambda ranks, wrap=wrap: share(ranks, wrap)) for wrap in (False, True))
    assert plain == through
    assert through[0][1:] == ([0, 1], 1)


def test_only_what_cannot_carry_a_gpu_s_tensors_goes_through_the_host():
    def share(collective):
        own = for_device(collective, torch.device("cpu")) is collective
        through = isinstance(for_device(collective, CUDA), ThroughHost)
        collective.carries_gpu_tensors = True
        # As ranks of one machine have it, which exchange through its memory what is on the host.
        wrapped = SimpleNamespace(base=collective, size=2)
        return own, through, for_device(collective, CUDA) is collective, for_device(wrapped, CUDA) is collective

    assert run_inline(2, share) == [(True, True, True, True)] * 2
    alone = SingleProcess()
    assert for_device(alone, CUDA) is alone


@pytest.mark.parametrize("backbone", [*FULL, "mmoe", "ple", "star"])
def test_a_network_makes_nothing_on_the_host_of_tensors_on_a_gpu(backbone, monkeypatch):
    """With tensors that have a device and no memory, torch refuses to mix two devices, GPU or not."""
    # Which places are clicks would be a question about values: here all are.
    monkeypatch.setattr(
        torch.Tensor, "nonzero", lambda mask: torch.arange(mask.numel(), device=mask.device).unsqueeze(1)
    )
    history = {} if backbone in ("mmoe", "ple", "star") else {"history_dim": 4, "history_dropout": 0.2}
    model = build(backbone, features=FEATURES, rows=ROWS, seed=1, **history)
    held = {id(tensor): tensor.detach() for tensor in (*model.parameters(), *model.buffers())}
    with torch.no_grad(), FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=False) as mode:
        _to_gpu(model, {key: mode.from_tensor(tensor, static_shapes=True).to(CUDA) for key, tensor in held.items()})
        size = 12
        batch = Batch(
            ids=torch.zeros(size, 2, dtype=torch.int64, device=CUDA),
            numbers=torch.zeros(size, 1, device=CUDA),
            sequences={"clicked": torch.zeros(size, 4, dtype=torch.int64, device=CUDA)},
            label=torch.zeros(size, device=CUDA),
            weight=torch.zeros(size, device=CUDA),
            day=torch.zeros(size, dtype=torch.int64, device=CUDA),
            history={
                entity: (torch.zeros(size, 1, 4, device=CUDA), torch.zeros(size, 1, dtype=torch.bool, device=CUDA))
                for entity in ("user", "item")
            },
            domain=torch.zeros(size, dtype=torch.int64, device=CUDA),
        )
        model.embed_columns = lambda batch, widths: (
            tuple(torch.zeros(size, 2, width, device=CUDA) for width in widths),
            {"clicked": tuple(torch.zeros(size, 4, width, device=CUDA) for width in widths)},
        )
        assert model.eval()(batch).device == CUDA


def _to_gpu(model, twins):
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                held[name] = twins[id(tensor)] if tensor is not None else None


def on(device: torch.device, collective, parts, model, **settings) -> Trainer:
    model = copy.deepcopy(model)
    model.attach(collective)
    move(model, device)
    made = Trainer(model, collective, TrainingConfig(dense_learning_rate=1e-2, **settings), seed=4)
    made.fit(parts, len(parts))
    return made


@gpu
@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "lazy_adam", "ftrl"])
@pytest.mark.parametrize("backbone", FULL)
def test_a_training_on_the_gpu_is_that_on_the_host(backbone, optimizer):
    model = build(backbone, features=FEATURES, rows=ROWS, seed=4, hidden_units=[16, 8])
    host, device = (
        on(where, SingleProcess(), batches(), model, sparse_optimizer=optimizer)
        for where in (torch.device("cpu"), CUDA)
    )
    assert device.model.tables.weight.is_cuda
    assert device.progress.loss == pytest.approx(host.progress.loss, abs=1e-4)
    torch.testing.assert_close(device.model.tables.weight.cpu(), host.model.tables.weight, rtol=1e-3, atol=1e-4)
    tensors, record = device.state()
    again = on(CUDA, SingleProcess(), [], model, sparse_optimizer=optimizer)
    again.restore(STEPS, {name: tensor.cpu() for name, tensor in tensors.items()}, record)
    assert {
        name: bool(torch.equal(tensor.cpu(), again.state()[0][name].cpu())) for name, tensor in tensors.items()
    } == (dict.fromkeys(tensors, True))


@gpu
@pytest.mark.parametrize("sharded", [(), ("user_id",)])
def test_two_ranks_on_one_gpu_train_as_one(sharded):
    alone = on(CUDA, SingleProcess(), batches(), new_model())
    models = [new_model(), new_model()]

    def share(collective):
        ranks = for_device(collective, CUDA)
        model = models[ranks.rank]
        model.attach(ranks)
        move(model, CUDA)
        model.tables.shard(sharded, ranks)
        made = Trainer(model, ranks, TrainingConfig(dense_learning_rate=1e-2), seed=4)
        cut = [batch.slice(0, 5) if ranks.rank == 0 else batch.slice(5, len(batch)) for batch in batches()]
        return made.fit(cut, STEPS).loss

    left, right = run_inline(2, share)
    assert left == right == pytest.approx(alone.progress.loss, abs=1e-4)


@gpu
def test_sixteen_bits_and_autoft_on_the_gpu():
    model = fine_tune(new_model(), "autoft", AutoftConfig(), 1, STEPS)
    for autocast in ("none", "bfloat16", "float16"):
        made = on(CUDA, SingleProcess(), batches(), model, autocast=autocast)
        assert made.progress.step == STEPS
        assert made.model.choice.taken.is_cuda
