"""The fixed part of a simulated world: what items are, when they live, what sways a click.

Shapes: N items of a domain, K latent dimensions, C categories, B brands. Equations in docs/simulator.md.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ecdctr.config.simulator import WorldConfig

Domain = Literal["natural", "ad"]
DOMAINS: tuple[Domain, Domain] = ("natural", "ad")
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DEVICES = ("phone", "desktop", "tablet")
POSITIONS = 10
REGIONS = 12
EVERGREEN = 0.05
"""Popularity, as a share of the one at birth, that a natural item never loses."""
RANK_OFFSET = 5
"""Added to popularity ranks (Zipf-Mandelbrot), so that no single item carries a domain."""
_PRICE_MEAN, _PRICE_SD, _PRICE_SHIFT = 3.0, 0.8, 1.5
_AGE_MEAN, _AGE_SD = 2.5, 1.0

_GEOMETRY, _CATALOGUE, _EFFECTS = 1, 2, 3
USERS_STREAM, DAY_STREAM = 4, 5


def generator(seed: int, *key: int) -> np.random.Generator:
    """Random numbers of one unit of work, independent of every other unit and of the order of work."""
    return np.random.default_rng(np.random.SeedSequence([seed, *key]))


def normalised(weights: Floats) -> Floats:
    """Weights divided by their sum."""
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def blend(shared: Floats, own: Floats, correlation: float) -> Floats:
    """A standard normal that has the given correlation with `shared`, from another independent one."""
    return np.asarray(correlation * shared + np.sqrt(1 - correlation**2) * own, dtype=np.float64)


@dataclass(frozen=True)
class Catalogue:
    """Items of one domain, ordered by category so that a category is one stretch of the arrays."""

    number: Ints
    """(N,) what the item's id is made of; says nothing about the item."""
    category: Ints
    brand: Ints
    vector: Floats
    """(N, K) of unit length: what the item is about."""
    quality: Floats
    log_price: Floats
    born: Ints
    """(N,) first day; negative where the item is older than the log."""
    ends: Ints
    """(N,) first day on which the item is shown no more."""
    base: Floats
    """(N,) popularity at birth."""
    offsets: Ints
    """(C + 1,) where each category's stretch begins; the last is N."""
    half_life: float

    def popularity(self, day: int) -> Floats:
        """(N,) weight of each item on a day, 0 where it is not alive."""
        alive = (self.born <= day) & (day < self.ends)
        age = np.maximum(day - self.born, 0)
        decay = EVERGREEN + (1 - EVERGREEN) * np.exp2(-age / self.half_life)
        return np.asarray(np.where(alive, self.base * decay, 0.0), dtype=np.float64)


@dataclass(frozen=True)
class Effects:
    """What is added to the log-odds of a click, by value of each attribute; standardised before `strength`."""

    brand: Floats
    position: Floats
    hour: Floats
    device: Floats
    region: Floats
    number: Floats
    """(2,) weights of the standardised log price and log age."""


@dataclass(frozen=True)
class Surroundings:
    """How often each position, hour and device occurs."""

    position: Floats
    hour: Floats
    device: Floats


@dataclass(frozen=True)
class World:
    """All that stays as it is through the log, by domain."""

    config: WorldConfig
    category_count: int
    category_vectors: Floats
    """(C, K) of unit length."""
    catalogues: dict[Domain, Catalogue]
    effects: dict[Domain, Effects]
    surroundings: dict[Domain, Surroundings]
    region_shares: Floats


@functools.lru_cache(maxsize=1)
def build_world(config: WorldConfig) -> World:
    """The world of these parameters; kept, since every unit of work in a process needs the same one."""
    per_ads = max(1, config.categories // 2)
    common = round(per_ads * config.category_overlap)
    count = config.categories + per_ads - common
    random = generator(config.seed, _GEOMETRY)
    categories = _unit(random.normal(size=(count, config.latent_dim)))
    brands = random.normal(size=(count * config.brands_per_category, config.latent_dim))
    natural = np.arange(config.categories)
    ads = np.concatenate([random.permutation(config.categories)[:common], np.arange(config.categories, count)]).astype(
        np.int64
    )
    # With no shift a shared category is as frequent among ads as among natural items.
    natural_mass = normalised(np.arange(1, config.categories + 1) ** -0.5)
    inherited = np.append(natural_mass, np.full(count - config.categories, natural_mass.mean()))[ads]
    own = random.permutation(inherited)
    ad_mass = (1 - config.ad_shift) * normalised(inherited) + config.ad_shift * normalised(own)
    choices: dict[Domain, tuple[Ints, Floats]] = {"natural": (natural, natural_mass), "ad": (ads, ad_mass)}
    return World(
        config=config,
        category_count=count,
        category_vectors=categories,
        catalogues={domain: _catalogue(config, domain, *choices[domain], categories, brands) for domain in DOMAINS},
        effects=_effects(config, len(brands)),
        surroundings=_surroundings(config.ad_shift),
        region_shares=normalised(np.arange(1, REGIONS + 1) ** -0.7),
    )


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype=np.float64)


def _catalogue(
    config: WorldConfig, domain: Domain, choices: Ints, mass: Floats, categories: Floats, brands: Floats
) -> Catalogue:
    size = config.items if domain == "natural" else config.ads
    random = generator(config.seed, _CATALOGUE, DOMAINS.index(domain))
    number = random.permutation(size)
    category = np.sort(choices[random.choice(len(choices), size=size, p=mass)])
    brand = category * config.brands_per_category + random.integers(config.brands_per_category, size=size)
    latent_scale = 1 / np.sqrt(config.latent_dim)
    offset = 0.5 * brands[brand] + 0.5 * random.normal(size=(size, config.latent_dim))
    if domain == "natural":
        oldest = max(1, round(4 * config.half_life_days))
        born = np.where(
            random.random(size) < config.born_share,
            random.integers(0, config.days, size=size),
            random.integers(-oldest, 1, size=size),
        )
        born[np.argmin(born)] = min(int(born.min()), 0)
        ends = np.full(size, np.iinfo(np.int64).max)
    else:
        length = np.maximum(1, random.poisson(config.campaign_days, size=size))
        born = random.integers(1 - config.campaign_days, config.days, size=size)
        ends = born + length
    shift = config.ad_shift * _PRICE_SHIFT if domain == "ad" else 0.0
    return Catalogue(
        number=number,
        category=category,
        brand=brand,
        vector=_unit(categories[category] + latent_scale * offset),
        quality=random.normal(size=size),
        log_price=_PRICE_MEAN + shift + _PRICE_SD * random.normal(size=size),
        born=born,
        ends=ends,
        base=(1.0 + RANK_OFFSET + random.permutation(size)) ** -config.zipf,
        offsets=np.searchsorted(category, np.arange(len(categories) + 1)),
        half_life=config.half_life_days if domain == "natural" else np.inf,
    )


def _effects(config: WorldConfig, brands: int) -> dict[Domain, Effects]:
    random = generator(config.seed, _EFFECTS)
    hours = np.arange(24)
    shared = {
        "brand": random.normal(size=brands),
        "position": -np.log(np.arange(1, POSITIONS + 1)),
        "hour": np.sin(2 * np.pi * (hours - 15) / 24) + 0.5 * np.sin(4 * np.pi * (hours - 7) / 24),
        "device": random.normal(size=len(DEVICES)),
        "region": random.normal(size=REGIONS),
    }
    shared = {name: _standardised(effect) for name, effect in shared.items()}
    number = np.array([-1.0, -1.0])
    own = {name: _standardised(random.normal(size=len(effect))) for name, effect in shared.items()}
    own_number = random.normal(size=2)
    ads = {name: blend(effect, own[name], config.shared_interest) for name, effect in shared.items()}
    return {
        "natural": Effects(**shared, number=number),
        "ad": Effects(**ads, number=blend(number, own_number, config.shared_interest)),
    }


def _standardised(effect: Floats) -> Floats:
    return np.asarray((effect - effect.mean()) / max(float(effect.std()), 1e-9), dtype=np.float64)


def _surroundings(ad_shift: float) -> dict[Domain, Surroundings]:
    hours = np.arange(24)
    natural = Surroundings(
        position=normalised(np.arange(1, POSITIONS + 1) ** -0.5),
        hour=normalised(1.2 + np.cos(2 * np.pi * (hours - 20) / 24) + 0.6 * np.cos(4 * np.pi * (hours - 8) / 24)),
        device=np.array([0.6, 0.3, 0.1]),
    )
    slots = np.zeros(POSITIONS)
    slots[[2, 5, 8]] = 0.5, 0.3, 0.2
    evening = normalised(np.exp(-0.5 * ((hours - 21) / 2.5) ** 2) + 0.01)
    ads = Surroundings(position=slots, hour=evening, device=np.array([0.85, 0.05, 0.1]))
    mixed = {
        name: (1 - ad_shift) * getattr(natural, name) + ad_shift * getattr(ads, name)
        for name in ("position", "hour", "device")
    }
    return {"natural": natural, "ad": Surroundings(**mixed)}


def standard_numbers(log_price: Floats, age: Floats) -> Floats:
    """(R, 2) log price and log age on the scale of natural items, for which both are near mean 0 and deviation 1."""
    return np.stack([(log_price - _PRICE_MEAN) / _PRICE_SD, (np.log1p(age) - _AGE_MEAN) / _AGE_SD], axis=1)
