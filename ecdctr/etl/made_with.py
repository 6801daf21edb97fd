"""The settings that tables were prepared with stand in the tables themselves: what is made by others is refused."""

import hashlib
import json

from ecdctr.config import Config
from ecdctr.exceptions import ConfigError
from ecdctr.lake.schema import DOMAINS
from ecdctr.lake.tables import Lake

MADE_WITH = "ecdctr.preparation"
"""Property of each table: the digest of the settings."""
TABLES = (*(f"{d}_impressions" for d in DOMAINS), "quarantine", "vocabulary", *(f"{d}_samples" for d in DOMAINS))


def preparation_digest(config: Config) -> str:
    """SHA-256 of all settings that decide what a prepared row looks like."""
    tree = config.model_dump(mode="json", include={"vocabularies", "lanes"}) | {"dataset": config.dataset.of_rows()}
    tree["dataset"].pop("simulator")
    for rules in tree["vocabularies"].values():
        rules.pop("expire_after")
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def refuse_other_preparation(lake: Lake, config: Config) -> None:
    """Samples of two feature contracts in one table would be unreadable for every model.

    Raises:
        ConfigError: The tables were prepared otherwise.
    """
    for name in TABLES:
        if not lake.exists(name):
            continue
        found = lake.snapshot(name).properties.get(MADE_WITH)
        if found is not None and found != preparation_digest(config):
            raise ConfigError(
                f"{lake.path(name)} was prepared with other features, columns, vocabulary rules or lanes",
                hint="choose another name for this configuration, or remove the warehouse folder to start over",
            )
