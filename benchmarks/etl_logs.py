"""Simulated logs of a wanted size, and the configuration that all contestants of the ETL benchmark follow."""

from pathlib import Path

from ecdctr.config import Config, load_config
from ecdctr.config.simulator import WorldConfig

BASE = Path(__file__).parents[1] / "conf" / "datasets" / "simulated.yml"
DAYS = 30
EVENTS_PER_USER = 53
EVENTS_PER_ITEM = 200
DOMAINS = {"natural": "natural", "ad": "ads"}
"""Each domain's folder below a log."""
ID_FIELDS = {
    "user_id": "user_id",
    "item_id": "item_id",
    "category": "category",
    "brand": "brand",
    "device": "device",
    "user_region": "user_region",
}
"""Fields with an open vocabulary, and their columns of the clean impressions."""
BOUNDARIES = (1, 2, 3, 5, 8)
NUMBERS = ("price", "item_age")
MIN_COUNT = 2
CLICKS = 20


def world(events: int) -> WorldConfig:
    """A world with about so many impressions; users and items grow with them, the days do not."""
    items = max(500, events // EVENTS_PER_ITEM)
    return WorldConfig(
        days=DAYS, users=max(100, events // EVENTS_PER_USER), items=items, ads=max(50, items // 10), seed=7
    )


def config(log: Path, warehouse: Path) -> Config:
    """The configuration of `prepare`: that of the shipped simulated data set, over this log.

    Raises:
        ValueError: The shipped configuration no longer says what the other contestants do.
    """
    places = [f"dataset.{key}.path={log / key}" for key in DOMAINS.values()]
    found = load_config(BASE, [*places, f"warehouse={warehouse}", "dataset.simulator=null", "name=bench"])
    kinds = {spec.name: spec.kind for spec in found.dataset.features}
    wanted = dict.fromkeys([*ID_FIELDS][2:], "id") | dict.fromkeys(NUMBERS, "number")
    wanted |= {"position": "bucket", "hour": "time", "weekday": "time", "clicked_items": "sequence"}
    if kinds != wanted:
        raise ValueError(f"{BASE} has the features {kinds}; the other contestants make {wanted}")
    return found
