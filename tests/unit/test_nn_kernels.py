"""Compiled passes over rows against torch's own operations and NumPy's sort."""

import numpy as np
import pytest
import torch

from ecdctr.nn import distinct as module
from ecdctr.nn import row_layout
from ecdctr.nn.distinct import distinct
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.nn.kernels import ROWS
from ecdctr.nn.row_layout import RowLayout
from ecdctr.training import optimizers, row_exchange
from ecdctr.training.optimizers import RowwiseAdagrad
from ecdctr.training.row_exchange import merge_packed, pack_rows

pytestmark = [pytest.mark.unit, pytest.mark.skipif(ROWS is None, reason="the package was installed without a compiler")]

CASES = [
    [],
    [7],
    [3, 3, 3],
    [5, 0, 5, 2, 0, 5],
    [2**40, 1, 2**40, 2**33 + 5, 1],
    np.random.default_rng(1).zipf(1.3, 5000).clip(max=3000).tolist(),
    np.random.default_rng(2).integers(0, 10_000_000, 4097).tolist(),
]


@pytest.mark.parametrize("places", CASES)
def test_groups_are_those_of_a_stable_sort(places):
    places = torch.tensor(places, dtype=torch.int64)
    found = distinct(places)
    rows, inverse = np.unique(places.numpy(), return_inverse=True)
    order = np.argsort(places.numpy(), kind="stable")
    assert found.rows.tolist() == rows.tolist()
    assert found.inverse.tolist() == inverse.tolist()
    assert found.order.tolist() == order.tolist()
    assert found.starts.tolist() == np.searchsorted(places.numpy()[order], rows).tolist()


@pytest.mark.parametrize("dim", [1, 4, 16, 17])
@pytest.mark.parametrize("apart", [0, 3])
def test_sums_by_row_are_added_in_the_order_of_places(dim, apart):
    generator = torch.Generator().manual_seed(dim)
    places = torch.randint(0, 50, (400,), generator=generator)
    values = torch.randn(400, dim + apart, generator=generator)[:, :dim]
    groups = distinct(places)
    expected = torch.zeros(len(groups.rows), dim)
    for place, value in zip(groups.inverse.tolist(), values, strict=True):
        expected[place] += value
    assert torch.equal(groups.merge(values), expected)


def test_vectors_are_those_of_their_rows_and_places_outside_are_refused():
    table = torch.randn(1000, 17)
    places = torch.randint(0, 1000, (300,))
    assert torch.equal(module.take_rows(table, places), table[places])
    assert module.take_rows(table, places[:0]).shape == (0, 17)
    for outside in (1000, -1, 2**40):
        places[200] = outside
        with pytest.raises(IndexError, match=f"row {outside} of a table with 1000 rows"):
            module.take_rows(table, places)


@pytest.mark.parametrize("dim", [1, 16, 17])
def test_row_wise_adagrad_takes_the_steps_of_torch(monkeypatch, dim):
    def steps() -> RowwiseAdagrad:
        optimizer = RowwiseAdagrad(EmbeddingTables({"item": 60}, {"item": 1}, dim, 3), lr=0.1)
        generator = torch.Generator().manual_seed(5)
        for count in (7, 0, 20, 1):
            places = torch.randperm(60, generator=generator)[:count]
            optimizer.step(places, torch.randn(count, dim, generator=generator))
        return optimizer

    compiled = steps()
    monkeypatch.setattr(optimizers, "ROWS", None)
    by_torch = steps()
    torch.testing.assert_close(compiled.accumulator, by_torch.accumulator, rtol=1e-6, atol=0)
    torch.testing.assert_close(compiled.tables.weight, by_torch.tables.weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 5, 40])
def test_rows_of_ranks_are_packed_and_merged_as_without_the_library(monkeypatch, ranks, wide):
    def exchanged() -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(ranks)
        packed = []
        for rank in range(ranks):
            places = torch.randperm(70, generator=generator)[: (rank * 17) % 40].sort().values
            values = torch.randn(len(places), 6, generator=generator)[:, :5]
            packed.append(pack_rows(places + (2**40 if wide else 0), values, wide=wide))
        return [torch.cat(packed), *merge_packed(packed, 5), *merge_packed([torch.cat(packed)], 5)]

    compiled = exchanged()
    monkeypatch.setattr(row_exchange, "ROWS", None)
    monkeypatch.setattr(module, "ROWS", None)
    for mine, other in zip(compiled, exchanged(), strict=True):
        assert torch.equal(mine, other)
    assert (ROWS.merge_runs([compiled[0]], 5) is None) == (ranks == 40)


@pytest.mark.parametrize("places", [[], [5], [5, 6, 7, 9, 14, 15, 2**40], list(range(5, 4000, 3))])
@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_rows_are_dealt_and_put_back_as_torch_does_it(places, ranks, monkeypatch):
    places = torch.tensor(places, dtype=torch.int64)
    layout = RowLayout({"small": 5, "large": 10})
    layout.first_sharded, layout.size = 5, ranks
    ours = layout.deal(places)
    monkeypatch.setattr(row_layout, "ROWS", None)
    theirs = layout.deal(places)
    assert torch.equal(ours.order, theirs.order)
    assert torch.equal(ours.local, theirs.local)
    assert ours.splits == theirs.splits
    vectors = torch.randn(len(places), 17)
    back = torch.empty(len(places), 17)
    module.put_rows(back, ours.order, vectors[ours.order])
    assert torch.equal(back, vectors)
    gradients = torch.randn(len(places), 20)[:, :17]
    packed = pack_rows(ours.local, gradients, wide=True, order=ours.order)
    assert torch.equal(packed, pack_rows(ours.local, gradients[ours.order], wide=True))
    monkeypatch.setattr(row_exchange, "ROWS", None)
    assert torch.equal(packed, pack_rows(ours.local, gradients, wide=True, order=ours.order))
