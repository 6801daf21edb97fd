"""Small worlds of which it is known what transfer must bring, made in numpy from one seed."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Columns = dict[str, Array]
"""Columns of one log: day, user, item, category, price, label; `(N,)` each."""


@dataclass(frozen=True)
class Recipe:
    """What a world is made of.

    A user likes some categories and not the others; an impression of a liked category is clicked more often. Ids count
    from 0. Natural items come first, then ads; categories are those of both domains, unless `shared` is false.

    Attributes:
        users: How many.
        items: Natural items.
        ads: Ads.
        categories: Of each domain.
        days: Days of the natural log.
        walk: Days at its end that are walked; the ad log begins `ad_days` before them.
        ad_days: Days of ads before the walk.
        natural_rows: Natural impressions of a user and day.
        ad_rows: Ads of a user and day.
        shared: Whether users like in ads what they like in natural content; else they have other tastes there, in
            categories that natural content does not have.
        away: Share of users who are absent from natural content for its last `away_days` days and from the ads before the
            walk, and come back with the walk.
        away_days: Before the walk and in it.
        price: Mean and standard deviation of the ads' price; natural content has 0 and 1.
        price_effect: Of a standardised price on the log-odds, in both domains.
        liked: Click rate of a liked category, and of any other one: natural, then ads.
    """

    users: int = 400
    items: int = 120
    ads: int = 24
    categories: int = 6
    days: int = 24
    walk: int = 6
    ad_days: int = 4
    natural_rows: float = 4.0
    ad_rows: float = 0.35
    shared: bool = True
    away: float = 0.0
    away_days: int = 12
    price: tuple[float, float] = (0.0, 1.0)
    price_effect: float = 0.0
    liked: tuple[tuple[float, float], tuple[float, float]] = ((0.6, 0.06), (0.5, 0.05))


@dataclass(frozen=True)
class World:
    """Both logs.

    Attributes:
        natural: The natural log.
        ads: The ad log.
        away: Users who come back with the walk, (U,) booleans.
        rows: Ids of users, items (ads included) and categories.
        walk: First walked day and the day after the last.
    """

    natural: Columns
    ads: Columns
    away: Array
    rows: dict[str, int] = field(default_factory=dict)
    walk: tuple[int, int] = (0, 0)


def plant(recipe: Recipe, seed: int) -> World:
    """Make a world; the same recipe and seed give the same rows."""
    rng = np.random.default_rng(seed)
    first_walked = recipe.days - recipe.walk
    tastes = rng.random((recipe.users, recipe.categories)) < 0.4
    away = rng.random(recipe.users) < recipe.away
    present = np.ones((recipe.days, recipe.users))
    present[first_walked - recipe.away_days :, away] = 0.0
    natural = _log(rng, recipe, present * recipe.natural_rows, tastes, recipe.liked[0], (0.0, 1.0), recipe.items)
    shown = np.zeros((recipe.days, recipe.users))
    shown[first_walked - recipe.ad_days :] = recipe.ad_rows
    shown[:first_walked, away] = 0.0
    if not recipe.shared:
        tastes = rng.random(tastes.shape) < 0.4
    ads = _log(rng, recipe, shown, tastes, recipe.liked[1], recipe.price, recipe.ads)
    ads["item"] += recipe.items
    if not recipe.shared:
        ads["category"] += recipe.categories
    rows = {
        "user_id": recipe.users, "item_id": recipe.items + recipe.ads, "category": recipe.categories * (2 - recipe.shared),
    }  # fmt: skip
    return World(natural, ads, away, rows, (first_walked, recipe.days))


def _log(
    rng: np.random.Generator,
    recipe: Recipe,
    intensity: Array,
    tastes: Array,
    rates: tuple[float, float],
    price: tuple[float, float],
    items: int,
) -> Columns:
    """Impressions of one domain, day by day.

    Args:
        rng: Of all draws.
        recipe: Of the world.
        intensity: `(days, users)`, expected impressions.
        tastes: `(users, categories)`, what each likes.
        rates: Click rate of what is liked, and of what is not.
        price: Mean and standard deviation.
        items: Items of this domain; item i is of category i modulo the number of categories.
    """
    counts = rng.poisson(intensity)
    day, user = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    item = rng.integers(0, items, len(day))
    category = item % recipe.categories
    standard = rng.standard_normal(len(day))
    rate = np.where(tastes[user, category], *rates)
    odds = np.log(rate / (1.0 - rate)) + recipe.price_effect * standard
    return {
        "day": day,
        "user": user,
        "item": item,
        "category": category,
        "price": price[0] + price[1] * standard,
        "label": (rng.random(len(day)) < 1.0 / (1.0 + np.exp(-odds))).astype(np.int64),
    }
