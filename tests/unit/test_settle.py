"""What is always decided the same way needs one copy: the smaller model gives the same logits, bit for bit."""

import pytest
import torch

from ecdctr.config.schema import AutoftConfig
from ecdctr.distributed.single import SingleProcess
from ecdctr.exceptions import TrainingError
from ecdctr.nn.policy import Choice, FixedPolicy
from ecdctr.transfer.autoft import AutoFT, decisions
from ecdctr.transfer.fine_tuning import fine_tune
from ecdctr.transfer.settle import constant_choices, settle
from tests.unit.test_autoft import FULL, backbone, batches, pretrained, trainer

pytestmark = pytest.mark.unit


class Told(FixedPolicy):
    """Decides as told, but where told 0.5 by whether the row's first looked-at number is positive."""

    def decide(self, seen, keys, step):
        taken = self.taken.expand(seen.shape[0], -1).clone()
        taken[:, self.taken == 0.5] = (seen[:, :1] > 0).float()
        return Choice(taken, taken)


def routed(told, name: str = "dcnv2") -> AutoFT:
    source, target = pretrained(name), pretrained(name)
    trainer(SingleProcess(), target).fit(batches(seed=5), 8)
    names = decisions(target)
    wanted = {other: told(other) if callable(told) else told for other in names}
    return AutoFT(target, Told([wanted[other] for other in names]), names, frozen=source).eval()


def settled(model: AutoFT, rows):
    small = settle(model, constant_choices(model, rows))
    for batch in rows:
        assert torch.equal(small(batch), model(batch))
    return small


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize(
    "told", [0.0, 1.0, lambda name: float(name.startswith("field.")), lambda name: float(name.startswith("layer."))]
)
def test_all_decided_gives_the_plain_backbone(name, told):
    model = routed(told, name)
    small = settled(model, batches(seed=3))
    assert type(small) is type(model.tuned)
    assert sum(p.numel() for p in small.parameters()) == sum(p.numel() for p in model.tuned.parameters())


def test_a_layer_that_is_decided_alone_loses_one_copy():
    model = routed(lambda name: {"layer.mlp.0": 0.0, "layer.cross.1": 1.0}.get(name, 0.5))
    small = settled(model, batches(seed=3))
    assert isinstance(small, AutoFT)
    assert set(model.names) - set(small.names) == {"layer.mlp.0", "layer.cross.1"}
    assert all(p.numel() == 0 for p in small.frozen.layers()["mlp.0"].parameters())
    assert all(p.numel() > 0 for p in model.frozen.parameters())


def test_fields_of_one_vocabulary_that_are_decided_differently_keep_both_copies():
    model = routed(lambda name: float(name != "field.clicked"))
    small = settled(model, batches(seed=3))
    assert isinstance(small, AutoFT)
    # Both read items, and so does the attention of the clicks.
    assert small.names == ["field.item_id", "field.clicked"]
    assert isinstance(small.policy, FixedPolicy)


def test_a_field_that_shares_a_vocabulary_with_an_open_one_keeps_both_copies():
    model = routed(lambda name: {"field.clicked": 0.5, "field.item_id": 0.0, "field.user_id": 0.0}.get(name, 1.0))
    small = settled(model, batches(seed=3))
    assert small.names == ["field.item_id", "field.clicked"]
    assert torch.equal(small.tuned.tables.table("user_id"), model.frozen.tables.table("user_id"))


@pytest.mark.parametrize("kind", ["autoft_field", "autoft_layer"])
def test_what_is_not_decided_about_is_tuned(kind):
    source = pretrained()
    model = fine_tune(backbone(), kind, AutoftConfig(), seed=4)
    model.load_network_state(
        {n: t + 0.01 for n, t in model.network_state().items() if t.is_floating_point()}
        | {n: t for n, t in model.network_state().items() if not t.is_floating_point()}
    )
    model.frozen.load_network_state(source.network_state())
    model.policy = FixedPolicy([0.0] * len(model.names))
    small = settled(model.eval(), batches(seed=3))
    if kind == "autoft_layer":
        assert type(small) is type(model.tuned)
    else:
        assert not [name for name in small.named_parameters() if "frozen" in name[0]]


def test_a_learned_policy_is_kept_for_what_is_open():
    source = pretrained()
    model = fine_tune(backbone(), "autoft", AutoftConfig(), seed=4)
    for way in (model.tuned, model.frozen):
        way.load_network_state(source.network_state())
        way.tables.weight.copy_(source.tables.weight * (1 + (way is model.tuned)))
    # The user's field always frozen, the first cross layer always tuned.
    with torch.no_grad():
        bias = model.policy.network.layers[-1].bias.view(-1, 2)
        bias[model.names.index("field.user_id"), 0] += 10
        bias[model.names.index("layer.cross.0"), 1] += 10
    rows = batches(seed=3)
    constant = constant_choices(model, rows)
    taken = torch.cat([model.decide(batch)[0].taken for batch in rows])
    assert constant == {
        name: bool(column[0]) for name, column in zip(model.names, taken.T, strict=True) if len(column.unique()) == 1
    }
    small = settled(model, rows)
    assert isinstance(small, AutoFT)
    assert not {"field.user_id", "layer.cross.0"} & set(small.names)
    assert small.names


def test_without_rows_nothing_is_constant():
    with pytest.raises(TrainingError, match="no rows"):
        constant_choices(routed(1.0), [])
