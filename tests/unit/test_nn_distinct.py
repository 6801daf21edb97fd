"""Grouping of looked-up rows against torch.unique and index_add_."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecdctr.exceptions import TrainingError
from ecdctr.features.encoding import bucket_id
from ecdctr.nn import distinct as module
from ecdctr.nn.distinct import distinct
from ecdctr.nn.embedding import EmbeddingTables

pytestmark = pytest.mark.unit

PLACES = st.lists(st.one_of(st.integers(0, 9), st.integers(0, 2**40)), max_size=60)


@settings(max_examples=80, deadline=None)
@given(PLACES)
def test_groups_are_those_of_unique(places):
    flat = torch.tensor(places, dtype=torch.int64)
    groups = distinct(flat)
    rows, inverse = torch.unique(flat, return_inverse=True)
    assert torch.equal(groups.rows, rows)
    assert torch.equal(groups.inverse, inverse)
    values = torch.arange(3.0 * len(flat)).view(-1, 3)
    assert torch.equal(groups.merge(values), torch.zeros(len(rows), 3).index_add_(0, inverse, values))


@pytest.mark.parametrize("dim", [1, 4, 16, 17])
def test_gradient_of_expand_is_the_sum_by_row(dim):
    groups = distinct(torch.tensor([7, 3, 7, 7, 0]))
    vectors = torch.randn(3, dim, dtype=torch.float32, requires_grad=True)
    weights = torch.randn(5, dim)
    ((expanded,),) = groups.expand(vectors, [5], [dim])
    (expanded * weights).sum().backward()
    expected = torch.stack([weights[4], weights[1], weights[[0, 2, 3]].sum(0)])
    torch.testing.assert_close(vectors.grad, expected)


def test_training_and_evaluation_look_up_the_same_vectors():
    tables = EmbeddingTables({"a": 30, "b": 40}, {"a": 1, "b": 3}, dim=5, seed=2)
    ids = torch.stack([torch.randint(0, 60, (64,)), torch.randint(0, 90, (64,))], 1)
    sequence = torch.randint(0, 90, (64, 7))
    places = [tables.places(ids, "a", "b"), tables.places(sequence, "b")]
    for seen, trained in zip(tables.lookup(places, training=False), tables.lookup(places, training=True), strict=True):
        assert torch.equal(seen, trained)
    naive = torch.stack([tables.table(name)[column if column < tables.rows[name] else bucket_id(column, oov)]
                         for row in ids.tolist()
                         for name, oov, column in zip(("a", "b"), (1, 3), row, strict=True)])  # fmt: skip
    assert torch.equal(tables.lookup(places, training=False)[0].view(-1, 5), naive)


def test_misuse_is_named():
    tables = EmbeddingTables({"a": 30}, {"a": 1}, dim=5, seed=2)
    with pytest.raises(TrainingError, match="training mode"):
        tables.touched_gradients()
    with pytest.raises(TrainingError, match="'b'"):
        tables.load_table("b", torch.zeros(3, 5))
    for shape in ((31, 5), (30, 4), (30,)):
        with pytest.raises(TrainingError, match="may only grow"):
            tables.load_table("a", torch.zeros(shape))
    with pytest.raises(TrainingError, match=r"\['a'\]"):
        EmbeddingTables({"a": 4}, {"a": 3}, dim=5, seed=2)


@pytest.mark.parametrize("compiled", [True, False])
def test_blocks_of_places_and_columns_are_those_of_the_whole_and_so_is_their_gradient(monkeypatch, compiled):
    if not compiled:
        monkeypatch.setattr(module, "ROWS", None)
    groups = distinct(torch.randint(0, 9, (40,)))
    vectors = torch.randn(len(groups.rows), 5, requires_grad=True)
    blocks = groups.expand(vectors, [30, 0, 10], [4, 1, 0])
    whole = vectors[groups.inverse]
    for part, rows in zip(blocks, whole.split([30, 0, 10]), strict=True):
        assert [block.is_contiguous() for block in part] == [True] * 3
        assert all(torch.equal(*pair) for pair in zip(part, rows.split([4, 1, 0], 1), strict=True))
    # The last part's first block is used by nothing, and one gradient has its numbers apart.
    weight = torch.randn(30, 4)
    loss = (blocks[0][0].t() * weight.t()).sum() + blocks[2][1].square().sum() + blocks[0][1].sum()
    expected = (whole[:30, :4] * weight).sum() + whole[30:, 4].square().sum() + whole[:30, 4].sum()
    ours, theirs = (torch.autograd.grad(value, vectors)[0] for value in (loss, expected))
    torch.testing.assert_close(ours, theirs)
