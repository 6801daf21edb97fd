"""Ids and crosses: one token of an open vocabulary."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.config.features import CrossFeature, IdFeature, TokenSource
from ecdctr.etl.scene import Scene
from ecdctr.etl.tokens import encoded, token


def encode(spec: IdFeature | CrossFeature, frame: DataFrame, scene: Scene) -> tuple[DataFrame, dict[str, Any]]:
    """The id of the feature's token."""
    frame, column = encode_token(spec.name, spec.tokens()[spec.name], frame, scene)
    return frame, {spec.name: column}


def encode_token(name: str, source: TokenSource, frame: DataFrame, scene: Scene) -> tuple[DataFrame, Any]:
    """Join the vocabulary; the token's own id from its day of admission on, else its bucket's."""
    rules, prefix = scene.config.vocabulary(source.vocabulary), f"_{name}_"
    text = token(source.columns, None if rules.share_domains else scene.domain)
    frame = scene.vocabularies.join(frame, source.vocabulary, text, prefix)
    own = F.when(F.col(f"{prefix}admitted") <= F.col("event_date"), F.col(f"{prefix}id"))
    return frame, encoded(F.col(f"{prefix}token"), own, rules.oov_buckets)
