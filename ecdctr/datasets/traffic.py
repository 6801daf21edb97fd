"""Users of a simulated world, day by day: who comes, what is shown, what is clicked.

The unit of work is one block of users through all days. Its random numbers depend on the seed, the block and the
day only. Shapes: U users of a block, R impressions, K latent dimensions, C categories. Equations in docs/simulator.md.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecdctr.config.simulator import WorldConfig
from ecdctr.datasets.world import (
    DAY_STREAM,
    DEVICES,
    DOMAINS,
    POSITIONS,
    USERS_STREAM,
    Domain,
    Floats,
    Ints,
    World,
    blend,
    build_world,
    generator,
    standard_numbers,
)

USERS_PER_BLOCK = 256
_MAIN_DEVICE_SHARE = 0.8
_WEEKEND_TRAFFIC = 1.15
_MICROSECONDS_PER_HOUR = 3_600_000_000
_CALIBRATION_BLOCKS = 4


@dataclass(frozen=True)
class _Users:
    """What stays with the users of one block; interests and propensities are (natural, ads' own part)."""

    number: Ints
    activity: Floats
    arrival: Ints
    away_from: Ints
    away_until: Ints
    region: Ints
    device: Ints
    stable: Floats
    """(2, U, K)"""
    propensity: Floats
    """(2, U)"""

    def present(self, day: int) -> Floats:
        """(U,) 1 for users who have arrived and are not away."""
        away = (self.away_from <= day) & (day < self.away_until)
        return ((self.arrival <= day) & ~away).astype(np.float64)


@dataclass
class _Minds:
    """What moves from day to day: the drifting part of interests, and bursts."""

    drifting: Floats
    """(2, U, K)"""
    burst_category: Ints
    burst_left: Ints
    """(U,) days that the burst still lasts, today included; 0: none."""


@dataclass(frozen=True)
class Impressions:
    """Impressions of one domain, block and day."""

    columns: dict[str, Ints | Floats]
    """What a log would hold, in numbers."""
    score: Floats
    """(R,) log-odds of a click before the domain's intercept and the mood of the day; never written to a log."""
    mood: Floats
    draw: Floats
    """(R,) uniform; a click is a draw below the probability."""


def block_count(config: WorldConfig) -> int:
    """Blocks of users of a world."""
    return -(-config.users // USERS_PER_BLOCK)


def _users(world: World, block: int) -> tuple[_Users, _Minds]:
    config = world.config
    first = block * USERS_PER_BLOCK
    size = min(USERS_PER_BLOCK, config.users - first)
    random = generator(config.seed, USERS_STREAM, block)
    tail = config.activity_tail
    activity = np.exp(tail * random.normal(size=size) - tail**2 / 2)
    arrival = np.where(random.random(size) < config.cold_users, random.integers(0, config.days, size=size), 0)
    length = random.integers(config.away_days[0], config.away_days[1] + 1, size=size)
    room = config.days - arrival - length - 1
    leaves = (random.random(size) < config.returning_users) & (room > 0)
    away_from = arrival + 1 + np.floor(random.random(size) * np.maximum(room, 1)).astype(np.int64)
    shape = (2, size, config.latent_dim)
    users = _Users(
        number=np.arange(first, first + size),
        activity=activity,
        arrival=arrival,
        away_from=away_from,
        away_until=np.where(leaves, away_from + length, away_from),
        region=random.choice(len(world.region_shares), size=size, p=world.region_shares),
        device=random.choice(len(DEVICES), size=size, p=world.surroundings["natural"].device),
        stable=random.normal(size=shape),
        propensity=random.normal(size=(2, size)),
    )
    return users, _Minds(random.normal(size=shape), np.zeros(size, np.int64), np.zeros(size, np.int64))


def _advance(config: WorldConfig, minds: _Minds, random: np.random.Generator) -> None:
    """One day passes in the users' minds."""
    minds.drifting = blend(minds.drifting, random.normal(size=minds.drifting.shape), 1 - config.drift)
    size = len(minds.burst_left)
    starts = random.random(size) < config.burst_rate
    category = random.integers(0, config.categories, size=size)
    length = random.geometric(1 / config.burst_days, size=size)
    left = np.maximum(minds.burst_left - 1, 0)
    starts &= left == 0
    minds.burst_category = np.where(starts, category, minds.burst_category)
    minds.burst_left = np.where(starts, length, left)


def _interests(config: WorldConfig, users: _Users, minds: _Minds, domain: Domain) -> Floats:
    """(U, K) interests of the day, each coordinate standard normal over users."""
    both = blend(users.stable, minds.drifting, float(np.sqrt(config.long_memory)))
    return both[0] if domain == "natural" else blend(both[0], both[1], config.shared_interest)


def _pick(cumulative: Floats, low: Floats, high: Floats, draw: Floats) -> Ints:
    """Indices picked in proportion to weight within [low, high) of the cumulative weights; never one of weight 0."""
    target = np.minimum(low + draw * (high - low), np.nextafter(cumulative[-1], 0))
    return np.searchsorted(cumulative, target, side="right")


def _shown(
    world: World, domain: Domain, weights: Floats, wishes: Floats, who: Ints, random: np.random.Generator
) -> Ints:
    """(R,) items shown to users `who`: by popularity alone, or by wishes (U, C) and popularity."""
    offsets = world.catalogues[domain].offsets
    edges = np.concatenate([[0.0], np.cumsum(weights)])
    mass = edges[offsets[1:]] - edges[offsets[:-1]]
    shares = np.cumsum(mass * np.exp(wishes - wishes.max(axis=1, keepdims=True)), axis=1)[who]
    draws = random.random((3, len(who)))
    category = (draws[0][:, None] * shares[:, -1:] >= shares).sum(axis=1).clip(max=world.category_count - 1)
    personal = draws[1] < world.config.personalisation
    low = np.where(personal, edges[offsets[category]], 0.0)
    high = np.where(personal, edges[offsets[category + 1]], edges[-1])
    return _pick(edges[1:], low, high, draws[2])


def _context(
    world: World, domain: Domain, users: _Users, who: Ints, random: np.random.Generator
) -> dict[str, Ints | Floats]:
    around = world.surroundings[domain]
    size = len(who)
    other = random.choice(len(DEVICES), size=size, p=around.device)
    return {
        "position": random.choice(POSITIONS, size=size, p=around.position),
        "hour": random.choice(24, size=size, p=around.hour),
        "within_hour": random.integers(0, _MICROSECONDS_PER_HOUR, size=size),
        "device": np.where(random.random(size) < _MAIN_DEVICE_SHARE, users.device[who], other),
    }


def _impressions(
    world: World, domain: Domain, day: int, users: _Users, minds: _Minds, random: np.random.Generator
) -> Impressions | None:
    """Impressions of one domain and day; None where nobody comes or nothing is live."""
    config, items, effects = world.config, world.catalogues[domain], world.effects[domain]
    share = config.ad_share if domain == "ad" else 1 - config.ad_share
    weekend = (config.start.toordinal() + day - 1) % 7 >= 5
    traffic = config.impressions_per_user_day * share * (_WEEKEND_TRAFFIC if weekend else 1.0)
    mood = config.noise * random.normal(size=len(users.number))
    who = np.repeat(np.arange(len(users.number)), random.poisson(traffic * users.activity * users.present(day)))
    weights = items.popularity(day)
    if not len(who) or not weights.any():
        return None
    interests = _interests(config, users, minds, domain)
    strength = config.burst_strength * (config.shared_interest if domain == "ad" else 1.0)
    in_burst = minds.burst_left > 0
    wishes = interests @ world.category_vectors.T
    wishes[in_burst, minds.burst_category[in_burst]] += strength
    item = _shown(world, domain, weights, wishes, who, random)
    context = _context(world, domain, users, who, random)
    age = day - items.born[item] + (context["hour"] + context["within_hour"] / _MICROSECONDS_PER_HOUR) / 24
    propensity = users.propensity[0]
    if domain == "ad":
        propensity = blend(users.propensity[0], users.propensity[1], config.shared_interest)
    bursting = in_burst[who] & (minds.burst_category[who] == items.category[item])
    surrounding = (
        effects.position[context["position"]]
        + effects.hour[context["hour"]]
        + effects.device[context["device"]]
        + effects.region[users.region[who]]
        + standard_numbers(items.log_price[item], age) @ effects.number
    )
    score = (
        config.interest_strength * np.einsum("rk,rk->r", interests[who], items.vector[item])
        + config.quality_strength * np.sqrt(0.5) * (items.quality[item] + effects.brand[items.brand[item]])
        + config.propensity_strength * propensity[who]
        + strength * bursting
        + config.context_strength * surrounding
    )
    columns: dict[str, Ints | Floats] = {
        "user": users.number[who],
        "item": items.number[item],
        "day": np.full(len(who), day),
        "microsecond": context["hour"] * _MICROSECONDS_PER_HOUR + context["within_hour"],
        "category": items.category[item],
        "brand": items.brand[item],
        "position": context["position"] + 1,
        "device": context["device"],
        "region": users.region[who],
        "price": np.exp(items.log_price[item]),
        "item_age": age,
    }
    return Impressions(columns, score, mood[who], random.random(len(who)))


def block_days(world: World, block: int) -> Iterator[tuple[int, Domain, Impressions]]:
    """All impressions of one block of users, day by day.

    A day depends on the days before it, never on those after it.
    """
    users, minds = _users(world, block)
    for day in range(world.config.days):
        random = generator(world.config.seed, DAY_STREAM, block, day)
        _advance(world.config, minds, random)
        for domain in DOMAINS:
            impressions = _impressions(world, domain, day, users, minds, random)
            if impressions is not None:
                yield day, domain, impressions


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float64)


def calibrate(config: WorldConfig) -> dict[Domain, float]:
    """Intercepts that give each domain its mean click probability over a fixed sample of blocks."""
    world, blocks = build_world(config), block_count(config)
    sample = sorted({round(at) for at in np.linspace(0, blocks - 1, min(blocks, _CALIBRATION_BLOCKS))})
    logits: dict[Domain, list[Floats]] = {domain: [] for domain in DOMAINS}
    for block in sample:
        for _, domain, impressions in block_days(world, block):
            logits[domain].append(impressions.score + impressions.mood)
    targets: dict[Domain, float] = {"natural": config.natural_ctr, "ad": config.ad_ctr}
    return {domain: _intercept(np.concatenate([np.zeros(0), *logits[domain]]), targets[domain]) for domain in DOMAINS}


def _intercept(logits: Floats, target: float) -> float:
    """The shift of the logits whose mean probability is the target, by bisection."""
    if not len(logits):
        logits = np.zeros(1)
    low, high = -30.0, 30.0
    for _ in range(50):
        middle = (low + high) / 2
        reached = float(_sigmoid(logits + middle).mean())
        low, high = (middle, high) if reached < target else (low, middle)
    return (low + high) / 2


FRAME_COLUMNS = {
    **dict.fromkeys(("domain", "block", "serial", "user", "item", "day", "microsecond"), "int64"),
    **dict.fromkeys(("category", "brand", "position", "device", "region"), "int64"),
    **dict.fromkeys(("price", "item_age"), "float64"),
    "click": "int64",
}
"""Type of each column of `block_frame`."""


def block_frame(
    config: WorldConfig, intercepts: Mapping[Domain, float], block: int, *, truth: bool = False
) -> pd.DataFrame:
    """Impressions of one block of users in numbers: `FRAME_COLUMNS`, with `domain` 0 for natural and 1 for ads.

    Args:
        config: The world.
        intercepts: As `calibrate` gives them.
        block: Which block of users.
        truth: Add `probability`, what could be known of a click before the mood of the day. For tests and for
            `oracle_auc`; logs are written without it.
    """
    pieces: list[dict[str, NDArray[Any]]] = []
    for _, domain, impressions in block_days(build_world(config), block):
        score = intercepts[domain] + impressions.score
        piece: dict[str, NDArray[Any]] = {
            **impressions.columns,
            "domain": np.full(len(score), DOMAINS.index(domain)),
            "block": np.full(len(score), block),
            "serial": np.arange(len(score)),
            "click": impressions.draw < _sigmoid(score + impressions.mood),
        }
        if truth:
            piece["probability"] = _without_mood(score, config.noise)
        pieces.append(piece)
    types = {**FRAME_COLUMNS, **({"probability": "float64"} if truth else {})}
    return pd.DataFrame(
        {
            name: np.concatenate([np.zeros(0, kind), *(piece[name].astype(kind, copy=False) for piece in pieces)])
            for name, kind in types.items()
        }
    )


def _without_mood(score: Floats, noise: float) -> Floats:
    """Mean click probability over moods, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    return np.asarray(_sigmoid(score[:, None] + noise * nodes) @ (weights / weights.sum()), dtype=np.float64)


def oracle_auc(config: WorldConfig, blocks: int | None = None) -> dict[str, float]:
    """AUC of the true click probabilities: the ceiling of any model, which no log reveals.

    Args:
        config: The world.
        blocks: Blocks of users to take, from the first on; None: all.

    Returns:
        AUC by domain; NaN where a domain has one class only.
    """
    intercepts = calibrate(config)
    chosen = range(block_count(config) if blocks is None else min(blocks, block_count(config)))
    rows = pd.concat([block_frame(config, intercepts, block, truth=True) for block in chosen])
    return {domain: _auc(rows[rows["domain"] == at]) for at, domain in enumerate(DOMAINS)}


def _auc(rows: pd.DataFrame) -> float:
    clicks = int(rows["click"].sum())
    others = len(rows) - clicks
    if not clicks or not others:
        return float("nan")
    ranks = rows["probability"].rank()[rows["click"] == 1].sum()
    return float((ranks - clicks * (clicks + 1) / 2) / (clicks * others))
