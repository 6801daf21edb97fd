"""Policies that decide row by row between two ways: 0 the frozen one, 1 the tuned one (AutoFT, arXiv 2106.04873)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecdctr.nn.mlp import MLP
from ecdctr.nn.row_noise import Keys, gumbel, uniform
from ecdctr.nn.seeding import seeded

EVALUATION = -1
"""The step of numbers that are drawn for scoring: the same whenever a row is scored."""


@dataclass(frozen=True)
class Choice:
    """What a policy has decided for some rows.

    Attributes:
        taken: `(B, K)`, 1 where the tuned way is taken, else 0; while training, with the gradient of the relaxed choice.
        probability: `(B, K)`, how likely the policy takes the tuned way.
    """

    taken: Tensor
    probability: Tensor


def straight_through(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Straight-through Gumbel-softmax: one-hot forward, the gradient of softmax((logits + noise) / temperature) backward.

    Args:
        logits: `(…, ways)`, as they are: a sigmoid before would hold every choice near one half.
        noise: As `logits`, standard Gumbel.
        temperature: Above 0; the lower, the nearer the relaxed choice is to the hard one, and the wilder its gradient.

    Returns:
        `(…, ways)` of exact zeros and ones.
    """
    soft = ((logits + noise) / temperature).softmax(-1)
    hard = F.one_hot(soft.argmax(-1), logits.shape[-1]).to(soft.dtype)
    # The difference is exactly zero, so that the forward value is exactly the hard one.
    return hard + (soft - soft.detach())


class Policy(nn.Module):
    """K decisions for each row.

    Attributes:
        steps: Training steps taken, over all days of a continued training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: Tensor
        self.register_buffer("steps", torch.tensor(0))

    @property
    def asks_for_keys(self) -> bool:
        """Whether the next decision depends on what tells rows apart, beside what the policy looks at."""
        return self.training

    def forward(self, seen: Tensor, keys: Keys) -> Choice:
        """Decide for rows.

        Args:
            seen: `(B, W)`, what the policy may look at.
            keys: `(B,)`, what tells rows apart; not read unless `asks_for_keys`.
        """
        return self.decide(seen, keys, int(self.steps) if self.training else EVALUATION)

    def advance(self) -> None:
        """A training step is taken; one step may decide in several parts."""
        self.steps += 1

    def decide(self, seen: Tensor, keys: Keys, step: int) -> Choice:
        """See `forward`; at step `EVALUATION` without chance in what is learned."""
        raise TypeError(f"{type(self).__name__} decides nothing")


class LearnedPolicy(Policy):
    """A small network gives two logits for each decision; sampled while training, the larger one at evaluation.

    Args:
        inputs: W.
        decisions: K.
        hidden_units: Of the network.
        temperature: At the first step and from `anneal_steps` on; between them it falls by the same factor each step.
        anneal_steps: Training steps over which the temperature falls.
        seed: Of initial values and noise.
        prior: Probability of the tuned way that every decision begins with; None: what the network happens to begin with.
        gain: Factor of the network's outputs: an optimiser whose steps have one size moves decisions as much faster.
    """

    def __init__(
        self,
        inputs: int,
        decisions: int,
        hidden_units: Sequence[int],
        *,
        temperature: tuple[float, float],
        anneal_steps: int,
        seed: int,
        prior: float | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.bounds, self.seed, self.gain = temperature, seed, gain
        # The settings say it: no part of what a version stores.
        self.prior: Tensor | None
        self.register_buffer(
            "prior", None if prior is None else torch.tensor([1 - prior, prior]).log(), persistent=False
        )
        # Kept with the policy: the days after the first have fewer steps of their own.
        self.anneal_steps: Tensor
        self.register_buffer("anneal_steps", torch.tensor(anneal_steps))
        with seeded(seed):
            self.network = MLP(inputs, hidden_units, out=2 * decisions)
        if prior is not None:
            last = self.network.layers[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def temperature(self, step: int) -> float:
        """τ of a training step."""
        first, last = self.bounds
        return first * float((last / first) ** min(step / int(self.anneal_steps), 1.0))

    def logits(self, seen: Tensor) -> Tensor:
        """`(B, W)` → `(B, K, 2)`."""
        # Embeddings begin a hundred times smaller than what a network's initial values are made for.
        logits: Tensor = self.gain * self.network(F.layer_norm(seen, seen.shape[1:]))
        logits = logits.unflatten(1, (-1, 2))
        return logits if self.prior is None else logits + self.prior

    def decide(self, seen: Tensor, keys: Keys, step: int) -> Choice:
        """See `Policy.decide`."""
        logits = self.logits(seen)
        if step == EVALUATION:
            taken = logits.argmax(-1).to(logits.dtype)
        else:
            noise = gumbel(keys, logits.shape[1] * 2, seed=self.seed, step=step).to(logits.device).view_as(logits)
            taken = straight_through(logits, noise, self.temperature(step))[..., 1]
        return Choice(taken, logits.softmax(-1)[..., 1])


class RandomPolicy(Policy):
    """The control: a coin for each row and decision, tossed anew in each training step, once for all at evaluation.

    Args:
        decisions: K.
        share: How likely the coin takes the tuned way.
        seed: Of the coins.
    """

    def __init__(self, decisions: int, share: float, seed: int) -> None:
        super().__init__()
        self.decisions, self.share, self.seed = decisions, share, seed

    @property
    def asks_for_keys(self) -> bool:
        """Always: a coin belongs to a row."""
        return True

    def decide(self, seen: Tensor, keys: Keys, step: int) -> Choice:
        """See `Policy.decide`."""
        heads = uniform(keys, self.decisions, seed=self.seed, step=step) < self.share
        taken = torch.from_numpy(heads).to(seen.device, seen.dtype)
        return Choice(taken, torch.full_like(taken, self.share))


class FixedPolicy(Policy):
    """The same decisions for all rows.

    Args:
        taken: K numbers, 0 or 1.
    """

    def __init__(self, taken: Sequence[float]) -> None:
        super().__init__()
        self.taken: Tensor
        self.register_buffer("taken", torch.tensor(list(taken), dtype=torch.float32))

    def decide(self, seen: Tensor, keys: Keys, step: int) -> Choice:
        """See `Policy.decide`."""
        taken = self.taken.expand(seen.shape[0], -1)
        return Choice(taken, taken)


class PartialPolicy(Policy):
    """Some of another policy's decisions, with nothing to learn.

    Args:
        whole: The other policy.
        columns: Which of its decisions, in order.
    """

    def __init__(self, whole: Policy, columns: Sequence[int]) -> None:
        super().__init__()
        self.whole, self.columns = whole, list(columns)

    @property
    def asks_for_keys(self) -> bool:
        """As the other policy."""
        return self.whole.asks_for_keys

    def decide(self, seen: Tensor, keys: Keys, step: int) -> Choice:
        """See `Policy.decide`."""
        choice = self.whole.decide(seen, keys, EVALUATION)
        return Choice(choice.taken[:, self.columns].detach(), choice.probability[:, self.columns].detach())
