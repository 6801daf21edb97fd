"""Impressions → ids, numbers and lists: each feature by the encoder of its kind."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.config.features import ITEM, USER
from ecdctr.etl.kinds import ENCODERS
from ecdctr.etl.kinds.identifiers import encode_token
from ecdctr.etl.scene import Scene
from ecdctr.features.feature_set import FeatureSet, token_sources


def encode(scene: Scene, features: FeatureSet, kept: Mapping[str, str] = MappingProxyType({})) -> DataFrame:
    """Impressions with one column per id field, number and list instead of the log's columns.

    A token has its id from its day of admission on; before, and where it never was admitted, it has its bucket's.

    Args:
        scene: The impressions and what was known by then.
        features: The sample contract.
        kept: Further columns of the impressions, by the name that they get.

    Returns:
        event_id, user_id (text, as `user`), event_time, event_date, label, what is kept, then the columns of the contract but for
        those of click sequences, which `ecdctr.etl.sequences` adds.
    """
    frame = scene.impressions
    columns: dict[str, Any] = {}
    sources = token_sources(scene.config.dataset)
    for name in (USER, ITEM):
        frame, columns[name] = encode_token(name, sources[name], frame, scene)
    for spec in scene.config.dataset.features:
        if spec.kind in ENCODERS:
            frame, made = ENCODERS[spec.kind](spec, frame, scene)
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
