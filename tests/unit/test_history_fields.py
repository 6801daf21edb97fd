"""What guards the historical fields: a gate that begins open, and rows that train without them."""

import pytest
import torch

from ecdctr.exceptions import ConfigError
from ecdctr.models.registry import build
from ecdctr.nn.field_gate import FieldGate
from ecdctr.nn.snapshot_pooling import SnapshotPooling
from ecdctr.transfer.autoft import decisions
from tests.unit.test_autoft import FEATURES, FULL, ROWS, backbone, batches, pretrained

pytestmark = pytest.mark.unit


def test_the_gate_is_its_formula_and_begins_open():
    gate, vector = FieldGate(3), torch.randn(5, 3)
    assert torch.equal(gate(vector), vector)
    torch.nn.init.normal_(gate.score.weight)
    torch.nn.init.normal_(gate.score.bias)
    for row, out in zip(vector, gate(vector), strict=True):
        factor = 2 / (1 + torch.exp(-(gate.score.weight[0] @ row + gate.score.bias[0])))
        torch.testing.assert_close(out, factor * row)


@pytest.mark.parametrize("mode", ["attention", "mean", "last", "concat"])
def test_a_dropped_row_is_one_that_no_snapshot_knows_and_scoring_drops_none(mode):
    torch.manual_seed(1)
    pooling = SnapshotPooling(4, mode, count=3, dropout=0.4)
    torch.nn.init.normal_(pooling.unknown)
    snapshots, present = torch.randn(2000, 3, 4), torch.ones(2000, 3, dtype=torch.bool)
    whole = pooling.eval()(snapshots, present)
    nobody = pooling(snapshots, ~present)
    out = pooling.train()(snapshots, present)
    dropped = (out == nobody).all(1)
    assert 0.35 < dropped.float().mean() < 0.45
    torch.testing.assert_close(out[~dropped], whole[~dropped])


def test_a_row_s_two_vectors_are_left_out_independently_of_each_other():
    torch.manual_seed(3)
    model = backbone(history_dropout=0.4).train()
    snapshots, present = torch.randn(10_000, 2, 3), torch.ones(10_000, 2, dtype=torch.bool)
    user, item = ((pool(snapshots, present) == pool.unknown).all(1).double() for pool in model.pooling.values())
    # Four standard errors of a share of 10,000 rows are at most 0.02.
    for left_out, likely in ((user, 0.4), (item, 0.4), (user * item, 0.4**2)):
        assert left_out.mean().item() == pytest.approx(likely, abs=0.02)


@pytest.mark.parametrize("name", FULL)
def test_every_backbone_takes_both_and_a_policy_covers_the_gate(name):
    model = backbone(name, history_gate=True, history_dropout=0.3)
    rows = batches(steps=1)[0]
    gates = [key for key in model.network_state() if key.startswith("history_gates.")]
    assert len(gates) == 4
    assert "field.history.user" in decisions(model)
    assert model.made_of("history.user")[1] == ["pooling.user", "projection.user", "history_gates.user"]
    model.train()(rows).sum().backward()
    assert model.history_gates["user"].score.weight.grad is not None
    assert torch.equal(model.eval()(rows), model(rows))


def test_without_a_gate_nothing_is_added():
    assert not [key for key in pretrained().network_state() if key.startswith("history_gates.")]
    with pytest.raises(ConfigError, match="history_gate"):
        build("mmoe", features=FEATURES, rows=ROWS, seed=1, history_gate=True)


def test_attention_over_snapshots_has_no_number_that_sixteen_bits_cannot_hold():
    pooling = SnapshotPooling(4, "attention", count=3)
    present = torch.tensor([[True, False, True], [False, False, False]])
    with torch.autocast("cpu", torch.float16):
        pooled = pooling(torch.randn(2, 3, 4), present)
    assert pooled.isfinite().all()
