"""Linear maps by other kernels: the same values and gradients as torch's own."""

import pytest
import torch
from torch.nn import functional as F

from ecdctr.nn import linear as module
from ecdctr.nn.linear import Linear, linear


@pytest.fixture
def wider(monkeypatch):
    """As on a processor where oneDNN is chosen; its kernels run on every processor."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(module, "wider_kernels", lambda: True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1200, 40), (30, 40, 40), (1, 1200, 40)])
def test_values_and_gradients_are_those_of_torch(wider, monkeypatch, shape, bias):
    torch.manual_seed(1)
    x, weight = torch.randn(shape), torch.randn(24, 40)
    given = [x, weight, torch.randn(24)] if bias else [x, weight]
    seen = []
    monkeypatch.setattr(module, "_product", lambda *given, product=module._product: seen.append(1) or product(*given))
    for rows_apart in (False, True):
        results = []
        for function in (linear, F.linear):
            leaves = [tensor.clone().requires_grad_() for tensor in given]
            out = function(*leaves)
            # The gradient of a sum is one number for all places, of a product it is dense.
            (out.sum() if rows_apart else (out * torch.arange(24.0)).sum()).backward()
            results.append([out.detach(), *(leaf.grad for leaf in leaves)])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-3)
    assert len(seen) == 6


def test_what_needs_no_gradient_gets_none(wider):
    frozen, x = Linear(64, 64), torch.randn(300, 64, requires_grad=True)
    frozen.requires_grad_(False)
    frozen(x).sum().backward()
    assert frozen.weight.grad is None
    torch.testing.assert_close(x.grad, frozen.weight.sum(0).expand_as(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", ["double", "autocast", "empty", "small"])
def test_anything_else_is_left_to_torch(wider, monkeypatch, change):
    monkeypatch.setattr(module, "_product", None)
    rows = {"empty": 0, "small": 3}.get(change, 300)
    layer, x = Linear(64, 64), torch.randn(rows, 64)
    if change == "double":
        layer, x = layer.double(), x.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def test_a_layer_gives_no_view_whose_change_in_place_autograd_would_copy(wider):
    hidden = torch.relu_(Linear(64, 64)(torch.randn(300, 64)))
    assert hidden.grad_fn.name() == "ReluBackward0"
