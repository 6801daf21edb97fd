"""Policies: exact choices forward, the relaxed gradient backward, chance that belongs to a row."""

import numpy as np
import pytest
import torch

from ecdctr.nn.policy import EVALUATION, FixedPolicy, LearnedPolicy, RandomPolicy, straight_through
from ecdctr.nn.row_noise import gumbel, row_keys, uniform

pytestmark = pytest.mark.unit


def keys(rows: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return row_keys(
        [torch.randint(0, 10**6, (rows, 3), generator=generator), torch.randn(rows, 2, generator=generator)]
    )


def learned(**settings) -> LearnedPolicy:
    given = {"temperature": (1.0, 0.1), "anneal_steps": 100, "seed": 3}
    return LearnedPolicy(6, 4, [8], **given | settings)


def test_a_prior_is_where_every_decision_begins_and_a_gain_is_how_fast_it_moves():
    seen = torch.randn(50, 6)
    policy = learned(prior=0.9, gain=10.0)
    torch.testing.assert_close(policy.logits(seen).softmax(-1)[..., 1], torch.full((50, 4), 0.9))
    assert (policy.eval()(seen, keys(50)).taken == 1).all()
    taken = torch.stack([policy.train()(seen, keys(50, at)).taken for at in range(200)])
    assert taken.mean().item() == pytest.approx(0.9, abs=0.01)
    # Adam's first step has one size for every parameter.
    moved = {}
    for gain in (1.0, 10.0):
        policy = learned(prior=0.5, gain=gain)
        optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
        policy.logits(seen)[..., 0].sum().backward()
        optimizer.step()
        moved[gain] = policy.logits(seen).detach().diff(dim=-1).mean().item()
    assert moved[1.0] > 0
    assert moved[10.0] == pytest.approx(10 * moved[1.0], rel=1e-3)


def relaxed(logits: torch.Tensor, noise: torch.Tensor, temperature: float, weights: torch.Tensor) -> float:
    """Σ weights · softmax((logits + noise) / τ), written out without torch's softmax."""
    scaled = np.exp((logits + noise).double().numpy() / temperature)
    return float((weights.double().numpy() * scaled / scaled.sum(-1, keepdims=True)).sum())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_gradient_is_that_of_the_relaxed_form_by_finite_differences(temperature):
    torch.manual_seed(1)
    logits, noise, weights = (torch.randn(5, 3, 2, dtype=torch.float64) for _ in range(3))
    asked = logits.clone().requires_grad_()
    choice = straight_through(asked, noise, temperature)
    assert set(choice.detach().unique().tolist()) == {0.0, 1.0}
    assert torch.equal(choice.detach().argmax(-1), (logits + noise).argmax(-1))
    (choice * weights).sum().backward()
    step = 1e-6
    for place in np.ndindex(*logits.shape):
        up, down = logits.clone(), logits.clone()
        up[place] += step
        down[place] -= step
        slope = (relaxed(up, noise, temperature, weights) - relaxed(down, noise, temperature, weights)) / (2 * step)
        assert asked.grad[place].item() == pytest.approx(slope, abs=1e-7)


def test_sampled_choices_are_distributed_as_the_softmax():
    logits = torch.tensor([[1.0, -0.5], [0.0, 0.0], [-2.0, 1.0], [0.3, 0.5]])
    rows = 40_000
    noise = gumbel(keys(rows), 8, seed=5, step=17).view(rows, 4, 2)
    taken = straight_through(logits.expand(rows, 4, 2), noise, 0.7)[..., 1].mean(0)
    expected = logits.softmax(-1)[:, 1]
    # Five standard errors of a share of 40,000 independent tosses.
    assert ((taken - expected).abs() < 5 * (expected * (1 - expected) / rows).sqrt()).all()


def test_noise_is_uniform_and_its_columns_steps_and_rows_are_unrelated():
    rows = 50_000
    first = uniform(keys(rows), 2, seed=1, step=1)
    counts = np.histogram(first, bins=20, range=(0, 1))[0]
    expected = first.size / 20
    # Chi-square of 19 degrees of freedom: 43.8 is its 99.9 % point.
    assert ((counts - expected) ** 2 / expected).sum() < 43.8
    others = [first[:, 1], uniform(keys(rows), 1, seed=1, step=2)[:, 0], uniform(keys(rows), 1, seed=2, step=1)[:, 0]]
    others.append(np.roll(first[:, 0], 1))
    for other in others:
        assert abs(np.corrcoef(first[:, 0], other)[0, 1]) < 5 / np.sqrt(rows)
    assert first.min() > 0
    assert first.max() < 1


def test_noise_belongs_to_the_row_wherever_it_stands():
    everything = uniform(keys(10), 3, seed=1, step=4)
    np.testing.assert_array_equal(uniform(keys(10)[[7, 2]], 3, seed=1, step=4), everything[[7, 2]])
    assert uniform(keys(0), 3, seed=1, step=4).shape == (0, 3)
    ids = torch.tensor([[1, 2], [2, 1], [1, 2]])
    one, swapped, same = row_keys([ids, torch.zeros(3, 0)])
    assert one == same
    assert one != swapped


def test_keys_do_not_depend_on_the_layout_in_memory():
    wide = torch.randn(6, 4)
    np.testing.assert_array_equal(row_keys([wide[:, 1:3]]), row_keys([wide[:, 1:3].clone()]))


def test_evaluation_takes_the_larger_logit_whatever_the_noise():
    policy, seen = learned(), torch.randn(50, 6)
    policy.eval()
    first, again = policy(seen, keys(50, 0)), policy(seen, keys(50, 1))
    assert torch.equal(first.taken, again.taken)
    assert torch.equal(first.taken, (first.probability > 0.5).float())
    assert int(policy.steps) == 0


def test_temperature_falls_by_one_factor_then_stays():
    policy = learned(temperature=(2.0, 0.5), anneal_steps=10)
    found = [policy.temperature(step) for step in range(13)]
    assert found[0] == 2.0
    np.testing.assert_allclose(np.divide(found[1:11], found[:10]), (0.5 / 2.0) ** 0.1)
    assert found[10:] == [pytest.approx(0.5)] * 3


def test_each_training_step_has_noise_and_temperature_of_its_own(monkeypatch):
    policy, seen = learned(anneal_steps=4), torch.randn(200, 6)
    temperatures = []
    monkeypatch.setattr(
        "ecdctr.nn.policy.straight_through",
        lambda logits, noise, t: temperatures.append(t) or straight_through(logits, noise, t),
    )
    taken = []
    for _ in range(6):
        taken.append(policy(seen, keys(200)).taken)
        # The parts of one step share its number.
        assert torch.equal(policy(seen, keys(200)).taken, taken[-1])
        policy.advance()
    assert int(policy.steps) == 6
    assert temperatures == [policy.temperature(step // 2) for step in range(12)]
    assert not torch.equal(taken[0], taken[1])


def test_no_random_number_is_drawn_from_torch():
    state = torch.get_rng_state()
    learned()(torch.zeros(3, 6), keys(3))
    RandomPolicy(4, 0.5, 1)(torch.zeros(3, 6), keys(3))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_coin_has_its_share_and_is_the_same_whenever_a_row_is_scored():
    policy, rows = RandomPolicy(3, 0.2, seed=4), 20_000
    seen = torch.zeros(rows, 6)
    first = policy(seen, keys(rows)).taken
    policy.advance()
    second = policy(seen, keys(rows)).taken
    assert not torch.equal(first, second)
    policy.eval()
    scored = policy(seen, keys(rows)).taken
    assert torch.equal(scored, policy(seen, keys(rows)).taken)
    for taken in (first, second, scored):
        assert ((taken.mean(0) - 0.2).abs() < 5 * (0.2 * 0.8 / rows) ** 0.5).all()


def test_a_fixed_policy_says_what_it_was_told():
    choice = FixedPolicy([1, 0]).decide(torch.zeros(2, 6), keys(2), EVALUATION)
    assert choice.taken.tolist() == [[1, 0], [1, 0]]
