"""Impressions → ids, numbers and lists: each feature encodes itself."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.etl.scene import Scene
from ecdctr.features.columns import ITEM, USER
from ecdctr.features.feature_set import FeatureSet, token_sources


def encode(scene: Scene, features: FeatureSet, kept: Mapping[str, str] = MappingProxyType({})) -> DataFrame:
    """Impressions with one column per id field, number and list instead of the log's columns.

    A token has its id from its day of admission on; before, and where it never was admitted, it has its bucket's.

    Args:
        scene: The impressions and what was known by then.
        features: The sample contract.
        kept: Further columns of the impressions, by the name that they get.

    Returns:
        event_id, user_id (text, as `user`), event_time, event_date, label, what is kept, then the columns of the contract but
        for lists of clicks, which `ecdctr.etl.sequences` adds.
    """
    frame = scene.impressions
    columns: dict[str, Any] = {}
    sources = token_sources(scene.config.dataset.features)
    for name in (USER, ITEM):
        frame, columns[name] = scene.token_id(frame, name, sources[name])
    for spec in scene.config.dataset.features:
        frame, made = spec.encode(frame, scene)
        columns |= made
    return frame.select(
        "event_id",
        F.col("user_id").alias("user"),
        "event_time",
        "event_date",
        "label",
        *(F.col(name).alias(new) for new, name in kept.items()),
        *(columns[name].alias(name) for name in features.columns if name in columns),
    )
