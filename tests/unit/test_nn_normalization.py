"""Batch norm over ranks: any dealing of rows to ranks gives torch's batch norm on the joined rows."""

import pytest
import torch
from torch import nn

from ecdctr.distributed.inline import run_inline
from ecdctr.nn.normalization import DistributedBatchNorm

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("cut", [0, 1, 11, 24])
def test_two_ranks_normalise_as_one(cut):
    torch.manual_seed(1)
    x, weight = torch.randn(24, 3) * 4 - 9, torch.randn(24, 3)
    theirs, joined = nn.BatchNorm1d(3), x.clone().requires_grad_()
    (theirs(joined) * weight).sum().backward()

    def share(collective):
        rows = slice(0, cut) if collective.rank == 0 else slice(cut, None)
        ours, part = DistributedBatchNorm(3), x[rows].clone().requires_grad_()
        ours.reducer = collective
        (ours(part) * weight[rows]).sum().backward()
        return ours, part.grad

    (left, left_grad), (right, right_grad) = run_inline(2, share)
    torch.testing.assert_close(torch.cat([left_grad, right_grad]), joined.grad, rtol=1e-3, atol=1e-4)
    for ours in (left, right):
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-4, atol=1e-5)
    for name, value in left.state_dict().items():
        assert torch.equal(value, right.state_dict()[name]), name
    torch.testing.assert_close(left.weight.grad + right.weight.grad, theirs.weight.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(left.bias.grad + right.bias.grad, theirs.bias.grad)


def test_one_row_in_all_still_teaches_the_layers_below():
    def share(collective):
        norm, x = DistributedBatchNorm(3), torch.randn(1 - collective.rank, 3, requires_grad=True)
        norm.reducer = collective
        norm(x).sum().backward()
        return x.grad, norm.num_batches_tracked.item()

    (gradient, tracked), (nothing, also) = run_inline(2, share)
    assert gradient.ne(0).all()
    assert nothing.shape == (0, 3)
    assert tracked == also == 0


def test_columns_far_from_zero_keep_their_variance():
    norm = DistributedBatchNorm(1)
    x = torch.randn(4096, 1) + 3000
    for _ in range(60):
        norm(x)
    torch.testing.assert_close(norm.running_var, x.var(0), rtol=1e-2, atol=0)
