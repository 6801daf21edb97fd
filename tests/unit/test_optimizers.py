"""Sparse optimisers against dense twins on the touched rows, and the exchange between ranks."""

import pytest
import torch
from torch import nn

from ecdctr.config.training import OptimizerConfig
from ecdctr.distributed.inline import run_inline
from ecdctr.exceptions import TrainingError
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.training.optimizers import Ftrl, LazyAdam, RowwiseAdagrad, sparse_optimizer
from ecdctr.training.row_exchange import merge_packed, pack_rows

pytestmark = pytest.mark.unit

STEPS = [[3, 7, 20], [7], [], [3, 7, 33], [33]]


def tables(rows: int = 20) -> EmbeddingTables:
    return EmbeddingTables({"item": rows, "user": 15}, {"item": 2, "user": 1}, dim=5, seed=1)


def steps(seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.tensor(rows, dtype=torch.int64), torch.randn(len(rows), 5, generator=generator)) for rows in STEPS]


def test_lazy_adam_is_adam_on_each_row_alone():
    fused = tables()
    rows = [nn.Parameter(row.clone()) for row in fused.weight]
    dense = [torch.optim.Adam([row], lr=0.1) for row in rows]
    sparse = LazyAdam(fused, lr=0.1)
    for places, gradients in steps():
        sparse.step(places, gradients.clone())
        for place, gradient in zip(places.tolist(), gradients, strict=True):
            rows[place].grad = gradient.clone()
            dense[place].step()
    torch.testing.assert_close(fused.weight, torch.stack([row.detach() for row in rows]))


def test_rowwise_adagrad_is_its_formula_and_of_one_column_torch_s_adagrad():
    fused = EmbeddingTables({"item": 40}, {"item": 1}, dim=1, seed=1)
    rows = [nn.Parameter(row.clone()) for row in fused.weight]
    dense = [torch.optim.Adagrad([row], lr=0.1, eps=1e-10) for row in rows]
    sparse = RowwiseAdagrad(fused, lr=0.1)
    for places, gradients in steps():
        sparse.step(places, gradients[:, :1].clone())
        for place, gradient in zip(places.tolist(), gradients[:, :1], strict=True):
            rows[place].grad = gradient.clone()
            dense[place].step()
    torch.testing.assert_close(fused.weight, torch.stack([row.detach() for row in rows]))

    wide = tables()
    expected, squares = wide.weight.clone(), torch.zeros(35)
    sparse = RowwiseAdagrad(wide, lr=0.1)
    for places, gradients in steps():
        sparse.step(places, gradients.clone())
        for place, gradient in zip(places.tolist(), gradients, strict=True):
            squares[place] += (gradient**2).sum() / 5
            expected[place] -= 0.1 * gradient / (squares[place].sqrt() + 1e-10)
    torch.testing.assert_close(wide.weight, expected)


def test_ftrl_without_penalties_is_torch_s_adagrad_by_coordinate_from_the_initial_row():
    fused = tables()
    rows = [nn.Parameter(row.clone()) for row in fused.weight]
    dense = [torch.optim.Adagrad([row], lr=0.1, eps=0.5) for row in rows]
    sparse = Ftrl(fused, lr=0.1, beta=0.5)
    for places, gradients in steps():
        sparse.step(places, gradients.clone())
        for place, gradient in zip(places.tolist(), gradients, strict=True):
            rows[place].grad = gradient.clone()
            dense[place].step()
    torch.testing.assert_close(fused.weight, torch.stack([row.detach() for row in rows]))


@pytest.mark.parametrize("rates", [[0.1] * 5, [0.1, 0.02, 0.3, 0.05, 0.2]])
def test_ftrl_is_the_closed_form_of_its_paper(rates):
    """z and n as McMahan et al. have them, in float64, from the z that stands for the initial row.

    σ is what 1/η = (β + √n) / α has grown by: with one α that is the paper's (√n' - √n) / α.
    """
    beta, l1, l2 = 0.5, 0.2, 0.3
    fused = tables()
    weight = fused.weight.double().clone()
    n, inverse = torch.zeros_like(weight), torch.full_like(weight, beta / rates[0])
    z = -(weight * (inverse + l2) + weight.sign() * l1)
    sparse = Ftrl(fused, lr=rates[0], beta=beta, l1=l1, l2=l2)
    for (places, gradients), alpha in zip(steps(), rates, strict=True):
        sparse.lr = alpha
        sparse.step(places, gradients.clone())
        for place, g in zip(places.tolist(), gradients.double(), strict=True):
            n[place] += g**2
            sigma = (beta + n[place].sqrt()) / alpha - inverse[place]
            z[place] += g - sigma * weight[place]
            inverse[place] += sigma
            solved = -(z[place] - z[place].sign() * l1) / (inverse[place] + l2)
            weight[place] = torch.where(z[place].abs() <= l1, 0.0, solved)
    torch.testing.assert_close(fused.weight, weight.float())
    assert (weight[[3, 7, 20, 33]] == 0).any()


def test_a_change_of_the_rate_alone_moves_no_row_of_ftrl():
    fused = tables()
    sparse = Ftrl(fused, lr=0.1, beta=0.5, l1=0.2, l2=0.3)
    for places, gradients in steps():
        sparse.step(places, gradients)
    before, places = fused.weight.clone(), torch.tensor([3, 7, 20, 33])
    for rate in (0.01, 0.4, 0.0, 0.1):
        sparse.lr = rate
        sparse.step(places, torch.zeros(4, 5))
        torch.testing.assert_close(fused.weight, before, rtol=1e-5, atol=1e-7)
        assert torch.equal(fused.weight == 0, before == 0)
    assert (before[places] == 0).any()


@pytest.mark.parametrize("kind", [RowwiseAdagrad, LazyAdam])
def test_the_penalty_is_that_of_the_touched_rows_alone(kind):
    plain, penalised = tables(), tables()
    first, second = kind(plain, lr=0.1), kind(penalised, lr=0.1, l2=0.5)
    for places, gradients in steps():
        first.step(places, gradients + 0.5 * plain.weight[places])
        second.step(places, gradients)
    assert torch.equal(plain.weight, penalised.weight)


@pytest.mark.parametrize("kind", [RowwiseAdagrad, LazyAdam, Ftrl])
def test_touched_rows_stay_within_max_norm_and_keep_their_direction(kind):
    free, bound = tables(), tables()
    free.weight.mul_(10)
    bound.weight.mul_(10)
    places = torch.tensor([3, 7])
    kind(free, lr=0.1).step(places, torch.ones(2, 5))
    kind(bound, lr=0.1, max_norm=0.05).step(places, torch.ones(2, 5))
    norms = free.weight.norm(dim=1, keepdim=True)
    expected = free.weight.clone()
    expected[places] *= (0.05 / norms[places]).clamp(max=1)
    torch.testing.assert_close(bound.weight, expected)


def test_a_row_of_ftrl_that_was_scaled_goes_on_from_there():
    fused = tables()
    rows = [nn.Parameter(row.clone()) for row in fused.weight]
    dense = [torch.optim.Adagrad([row], lr=0.1, eps=0.5) for row in rows]
    sparse = Ftrl(fused, lr=0.1, beta=0.5, max_norm=0.1)
    for places, gradients in steps():
        sparse.step(places, gradients)
        for place, gradient in zip(places.tolist(), gradients, strict=True):
            rows[place].grad = gradient.clone()
            dense[place].step()
            rows[place].data.mul_((0.1 / rows[place].data.norm()).clamp(max=1))
    torch.testing.assert_close(fused.weight, torch.stack([row.detach() for row in rows]))
    assert (fused.weight.norm(dim=1) > 0.099).any()
    # With penalties, and numbers at 0 beside the scaled ones: a step without a gradient leaves the scaled row.
    fused, places = tables(), torch.tensor([3, 7])
    sparse = Ftrl(fused, lr=0.1, beta=0.5, l1=0.2, l2=0.3, max_norm=0.05)
    sparse.step(places, torch.tensor([[2.0, -3, 0.1, 1, 0]]).repeat(2, 1))
    before = fused.weight.clone()
    torch.testing.assert_close(before[places].norm(dim=1), torch.full((2,), 0.05))
    sparse.step(places, torch.zeros(2, 5))
    torch.testing.assert_close(fused.weight, before)


def test_settings_name_the_optimiser_and_its_options():
    made = sparse_optimizer(tables(), OptimizerConfig(sparse_optimizer="ftrl", ftrl_l1=0.5, sparse_l2=2, max_norm=3))
    assert (type(made), made.l1, made.l2, made.beta, made.max_norm) == (Ftrl, 0.5, 2, 1e-4, 3)
    with pytest.raises(ValueError, match="ftrl_l1 is set"):
        OptimizerConfig(ftrl_l1=0.5)


@pytest.mark.parametrize("kind", [RowwiseAdagrad, LazyAdam, Ftrl])
def test_only_the_rows_of_the_batch_move(kind):
    fused = tables()
    before = fused.weight.clone()
    kind(fused, lr=0.1).step(torch.tensor([4, 30]), torch.ones(2, 5))
    moved = (fused.weight != before).any(1).nonzero().squeeze(1)
    assert moved.tolist() == [4, 30]


@pytest.mark.parametrize("kind", [RowwiseAdagrad, LazyAdam, Ftrl])
def test_state_goes_into_a_grown_vocabulary(kind):
    small, large = tables(20), tables(26)
    first, second = kind(small, lr=0.1), kind(large, lr=0.1)
    for places, gradients in steps():
        first.step(places, gradients)
    # Something stale in the new rows must not survive.
    second.step(torch.tensor([22]), torch.ones(1, 5))
    second.load_state_dict(first.state_dict())
    for name, values in first.state_dict().items():
        assert torch.equal(second.state_dict()[name][: len(values)], values), name
        assert not second.state_dict()[name][len(values) :].any(), name
    with pytest.raises(TrainingError, match="item"):
        first.load_state_dict(second.state_dict())
    with pytest.raises(TrainingError, match="nobody"):
        first.load_state_dict({"nobody": torch.zeros(3)})


def merge_touched(collective, places, gradients):
    return merge_packed([collective.all_gather(pack_rows(places, gradients, wide=True))], gradients.shape[1])


def test_ranks_end_with_the_same_bits_and_the_sum():
    parts = [(torch.tensor([2, 5, 2**40]), torch.randn(3, 4)), (torch.tensor([5, 9]), torch.randn(2, 4))]
    (left, left_sum), (right, right_sum) = run_inline(2, lambda c: merge_touched(c, *parts[c.rank]))
    assert left.tolist() == right.tolist() == [2, 5, 9, 2**40]
    assert torch.equal(left_sum, right_sum)
    (_, a), (_, b) = parts
    torch.testing.assert_close(left_sum, torch.stack([a[0], a[1] + b[0], b[1], a[2]]))


@pytest.mark.parametrize("empty", [[0], [1], [0, 1]])
def test_a_rank_that_touched_nothing_takes_part(empty):
    def share(collective):
        rows = 0 if collective.rank in empty else 2
        return merge_touched(collective, torch.arange(rows), torch.ones(rows, 4))

    for places, gradients in run_inline(2, share):
        assert places.tolist() == ([] if len(empty) == 2 else [0, 1])
        assert gradients.shape == (len(places), 4)
