"""Layers against independent references: formulas written out, torch's own modules, hand computation."""

import math

import pytest
import torch
from torch import nn

from ecdctr.nn import clicks as clicks_module
from ecdctr.nn.attention import TargetAttention
from ecdctr.nn.clicks import rounded
from ecdctr.nn.cross import CrossNetwork
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.nn.normalization import DistributedBatchNorm
from ecdctr.nn.snapshot_pooling import SnapshotPooling

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(3)


@pytest.mark.parametrize("rank", [None, 3])
def test_cross_network_is_the_paper_s_formula(rank):
    network, x0 = CrossNetwork(6, 2, rank), torch.randn(5, 6)
    expected = x0
    for cross in network.crosses:
        matrix = cross.weight if rank is None else cross[1].weight @ cross[0].weight
        bias = cross.bias if rank is None else cross[1].bias
        expected = x0 * (expected @ matrix.T + bias) + expected
    torch.testing.assert_close(network(x0), expected)


def test_target_attention_is_a_loop_over_clicks():
    attention = TargetAttention(4, [8])
    target, past = torch.randn(3, 4), torch.randn(3, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    expected = torch.zeros(3, 4)
    for row in range(3):
        for place in range(5):
            if mask[row, place]:
                q, k = target[row], past[row, place]
                expected[row] += attention.score(torch.cat([q, k, q - k, q * k])[None])[0] * k
    torch.testing.assert_close(attention(target, past, mask), expected)
    assert torch.equal(attention(target, past, mask)[2], torch.zeros(4))


@pytest.mark.skipif(clicks_module._LIBRARY is None, reason="the package was installed without a compiler")
@pytest.mark.parametrize("hidden_units", [[], [8], [16, 4]])
@pytest.mark.parametrize("rows", [0, 1, 50])
def test_compiled_attention_and_its_gradients_are_those_of_torch(monkeypatch, hidden_units, rows):
    attention = TargetAttention(5, hidden_units)
    target, past = torch.randn(rows, 7, 5)[:, 2].requires_grad_(), torch.randn(rows, 9, 6)[..., :5].requires_grad_()
    mask, weight = torch.rand(rows, 9) < 0.6, torch.randn(rows, 5)

    def everything():
        out = attention(target, past, mask)
        return out, *torch.autograd.grad((out * weight).sum(), [target, past, *attention.parameters()])

    compiled = everything()
    monkeypatch.setattr(clicks_module, "_LIBRARY", None)
    for mine, other in zip(compiled, everything(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_numbers_of_clicks_are_rounded_to_few_and_cost_little():
    sizes = {count: rounded(count) for count in range(100_000)}
    assert all(count <= size <= max(count * 1.032, count) for count, size in sizes.items())
    assert len({size for count, size in sizes.items() if count >= 1024}) <= 32 * 7
    assert sizes[0] == 0
    attention, past = TargetAttention(4, [8]), torch.randn(60, 5, 4, requires_grad=True)
    mask, target = (torch.arange(300) % 2 == 0).view(60, 5), torch.randn(60, 4)
    assert rounded(int(mask.sum())) != int(mask.sum())
    attention(target, past, mask).sum().backward()
    whole, gradient = past.grad.clone(), attention.score.layers[0].weight.grad.clone()
    attention.score.layers[0].weight.grad = None
    parts = [attention(target[at : at + 1], past[at : at + 1], mask[at : at + 1]).sum() for at in range(60)]
    torch.testing.assert_close(torch.autograd.grad(sum(parts), past)[0], whole)
    parts = [attention(target[at : at + 1], past[at : at + 1], mask[at : at + 1]).sum() for at in range(60)]
    sum(parts).backward()
    torch.testing.assert_close(attention.score.layers[0].weight.grad, gradient)


def test_batch_norm_equals_torch_s_own():
    ours, theirs = DistributedBatchNorm(7), nn.BatchNorm1d(7)
    with torch.no_grad():
        for module in (ours, theirs):
            module.weight.copy_(torch.linspace(0.5, 2, 7))
            module.bias.copy_(torch.linspace(-1, 1, 7))
    for _ in range(3):
        x = torch.randn(33, 7) * 5 + 100
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        weight = torch.randn(33, 7)
        (ours(a) * weight).sum().backward()
        (theirs(b) * weight).sum().backward()
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-3, atol=1e-3)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_a_global_batch_of_one_row_gives_numbers_and_leaves_statistics():
    norm = DistributedBatchNorm(3)
    assert torch.isfinite(norm(torch.randn(1, 3))).all()
    assert norm(torch.randn(0, 3)).shape == (0, 3)
    assert norm.num_batches_tracked == 0


def test_snapshot_pooling_by_hand():
    pooling = SnapshotPooling(2, "attention")
    with torch.no_grad():
        pooling.query.weight.copy_(torch.eye(2))
        pooling.key.weight.copy_(torch.eye(2))
        pooling.unknown.copy_(torch.tensor([9.0, 9.0]))
    snapshots = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]], [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]])
    present = torch.tensor([[True, True, False], [False, False, False]])
    one, zero = math.exp(1 / math.sqrt(2)), 1.0
    a, b = one / (one + zero), zero / (one + zero)
    # Row 1: [a, b]; row 2: [b, a]; their mean is one half each, and the absent third is never seen.
    torch.testing.assert_close(pooling(snapshots, present)[0], torch.tensor([(a + b) / 2, (a + b) / 2]))
    assert torch.equal(pooling(snapshots, present)[1], torch.tensor([9.0, 9.0]))


def test_snapshot_attention_is_a_loop_over_the_snapshots_present():
    dim, count = 3, 4
    pooling = SnapshotPooling(dim, "attention")
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    snapshots, present = torch.randn(9, count, dim), torch.rand(9, count) > 0.4
    present[0], present[1] = False, True
    q, k, v = (layer.weight.detach().double() for layer in (pooling.query, pooling.key, pooling.value))
    expected = []
    for row, known in zip(snapshots.double(), present, strict=True):
        there = [row[at] for at in range(count) if known[at]]
        mixed = []
        for one in there:
            scores = [math.exp(float((q @ one) @ (k @ other)) / math.sqrt(dim)) for other in there]
            mixed.append(sum(s / sum(scores) * (v @ other) for s, other in zip(scores, there, strict=True)))
        expected.append(sum(mixed) / len(mixed) if mixed else pooling.unknown.double())
    torch.testing.assert_close(pooling(snapshots, present), torch.stack(expected).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([True, True, True], [1.0, 2.0]),
        ([False, True, True], [3.0, 4.0]),
        ([False, False, True], [5.0, 6.0]),
        ([False, False, False], [9.0, 8.0]),
    ],
)
def test_last_pooling_takes_the_newest_that_knows_the_id(present, expected):
    pooling = SnapshotPooling(2, "last")
    with torch.no_grad():
        pooling.unknown.copy_(torch.tensor([9.0, 8.0]))
    snapshots = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    assert pooling(snapshots, torch.tensor([present])).tolist() == [expected]


def test_concatenation_puts_the_learned_vector_where_a_snapshot_is_missing():
    pooling = SnapshotPooling(2, "concat", count=3)
    with torch.no_grad():
        pooling.unknown.copy_(torch.tensor([9.0, 8.0]))
    snapshots = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [5.0, 6.0]], [[0.0, 0.0]] * 3])
    present = torch.tensor([[True, False, True], [False, False, False]])
    assert pooling.width == 6
    assert pooling(snapshots, present).tolist() == [[1, 2, 9, 8, 5, 6], [9, 8, 9, 8, 9, 8]]
    pooling(snapshots, present).sum().backward()
    # One missing place in the first row, three in the second.
    assert pooling.unknown.grad.tolist() == [4.0, 4.0]


def test_mean_pooling_ignores_what_is_absent():
    pooling = SnapshotPooling(2, "mean")
    pooled = pooling(torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]]), torch.tensor([[True, True, False]]))
    assert torch.equal(pooled, torch.tensor([[2.0, 3.0]]))


def tables(rows: int = 20, oov: int = 2) -> EmbeddingTables:
    return EmbeddingTables({"item": rows, "user": 10}, {"item": oov, "user": 1}, dim=4, seed=1)


def test_gradients_come_merged_by_row_and_padding_never_learns():
    fused = tables()
    ids = torch.tensor([[0, 5, 5], [7, 0, 5]])
    (vectors,) = fused.lookup([fused.places(ids, "item")], training=True)
    vectors.sum().backward()
    places, gradients = fused.touched_gradients()
    assert places.tolist() == [5, 7]
    assert gradients[:, 0].tolist() == [3.0, 1.0]
    assert torch.equal(vectors[0, 0], torch.zeros(4))


def test_ids_beyond_the_known_rows_are_their_bucket():
    fused = tables(rows=20, oov=2)
    # First token id is 4; 20 and 22 are of bucket 0 (id 2), 21 of bucket 1 (id 3), however large they get.
    assert fused.places(torch.tensor([19, 20, 21, 22, 2**53 + 1]), "item").tolist() == [19, 2, 3, 2, 3]
    assert fused.places(torch.tensor([9, 10]), "user").tolist() == [29, 22]


def test_a_grown_table_keeps_its_first_rows():
    small, large = tables(20), tables(500)
    assert torch.equal(large.table("item")[:20], small.table("item"))
    assert torch.equal(large.table("user"), small.table("user"))
    assert large.load_table("item", torch.ones(20, 4)) == 480


def test_an_empty_batch_looks_up_nothing():
    fused = tables()
    (vectors,) = fused.lookup([torch.zeros(0, 3, dtype=torch.int64)], training=True)
    vectors.sum().backward()
    assert fused.touched_gradients()[0].shape == (0,)
