"""Parameters of the simulated world; equations in docs/simulator.md."""

import datetime as dt
from typing import Self

from pydantic import Field, model_validator

from ecdctr.settings import Settings


class WorldConfig(Settings):
    """One world of users, natural items and ads; with the same parameters always the same logs."""

    seed: int = Field(default=7, ge=0)
    """Of everything that is random."""
    start: dt.date = dt.date(2024, 1, 1)
    """First day of the logs, UTC."""
    days: int = Field(default=60, ge=1)
    """Length of the logs."""
    users: int = Field(default=20_000, ge=1)
    """Users, counted over the whole log."""
    items: int = Field(default=4_000, ge=1)
    """Natural items, counted over the whole log."""
    ads: int = Field(default=400, ge=1)
    """Ads, counted over the whole log."""

    impressions_per_user_day: float = Field(default=2.2, gt=0)
    """Mean over users and days of presence, natural and ads together."""
    activity_tail: float = Field(default=1.0, ge=0, le=2)
    """Standard deviation of the logarithm of a user's activity; 0 makes all users equally active."""
    ad_share: float = Field(default=0.05, gt=0, lt=1)
    """Share of the impressions that are ads."""
    natural_ctr: float = Field(default=0.12, gt=0, lt=1)
    """Mean click probability of natural impressions."""
    ad_ctr: float = Field(default=0.04, gt=0, lt=1)
    """Mean click probability of ads."""

    categories: int = Field(default=20, ge=2, le=99)
    """Categories of natural items; ads have half as many."""
    brands_per_category: int = Field(default=5, ge=1, le=50)
    """Brands of one category, natural and ads together."""
    latent_dim: int = Field(default=8, ge=1, le=64)
    """Dimension of interests and of what items are about."""
    category_overlap: float = Field(default=0.7, ge=0, le=1)
    """Share of the ads' categories that natural items have too."""
    shared_interest: float = Field(default=0.7, ge=0, le=1)
    """Correlation, between the domains, of all that decides a click; 0: what is true of one says nothing of the other."""
    ad_shift: float = Field(default=0.6, ge=0, le=1)
    """How far positions, hours, devices, prices and categories of ads are distributed otherwise than those of natural
    items; 0: not at all (beyond `category_overlap`)."""

    interest_strength: float = Field(default=0.65, ge=0)
    """Weight of interest in the log-odds of a click."""
    quality_strength: float = Field(default=0.4, ge=0)
    """Weight of an item's and its brand's quality."""
    propensity_strength: float = Field(default=0.4, ge=0)
    """Weight of a user's general readiness to click."""
    context_strength: float = Field(default=0.2, ge=0)
    """Weight of each of position, hour, device, region, price and age of the item."""
    noise: float = Field(default=0.25, ge=0)
    """Standard deviation of a user's mood of one day, which nothing foretells."""

    long_memory: float = Field(default=0.7, ge=0, le=1)
    """Share of the variance of interests that never changes; the rest drifts."""
    drift: float = Field(default=0.05, ge=0, le=1)
    """Share by which the drifting part of interests is forgotten in one day."""
    burst_rate: float = Field(default=0.02, ge=0, le=1)
    """Chance per day that a user without one begins a burst of interest in one category."""
    burst_days: float = Field(default=4.0, ge=1)
    """Mean length of a burst."""
    burst_strength: float = Field(default=1.2, ge=0)
    """What a burst adds to the log-odds of a click in its category, and to those of being shown it."""

    personalisation: float = Field(default=0.5, ge=0, le=1)
    """Share of impressions chosen by interest and popularity; the others are chosen by popularity alone."""
    zipf: float = Field(default=1.0, ge=0, le=3)
    """Exponent of popularity over rank (Zipf-Mandelbrot, ranks counted from 6); 0: all alike."""
    half_life_days: float = Field(default=14.0, gt=0)
    """Days after which a natural item's popularity has halved."""
    born_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the natural items that are born through the log."""
    campaign_days: int = Field(default=14, ge=1)
    """Mean length of an ad's campaign."""

    cold_users: float = Field(default=0.3, ge=0, le=1)
    """Share of the users who arrive through the log."""
    returning_users: float = Field(default=0.15, ge=0, le=1)
    """Share of the users who stay away once and come back, where the log is long enough for it."""
    away_days: tuple[int, int] = (14, 28)
    """Shortest and longest absence of a returning user."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        shortest, longest = self.away_days
        if not 1 <= shortest <= longest:
            raise ValueError(f"away_days: found {[shortest, longest]}, expected 1 <= shortest <= longest")
        return self
