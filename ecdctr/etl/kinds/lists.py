"""Several tokens in one column, such as tags: a list of ids of fixed length."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.config.features import IdsFeature
from ecdctr.etl.scene import Scene
from ecdctr.etl.source import column
from ecdctr.etl.tokens import encoded, tokens
from ecdctr.features.encoding import PADDING


def encode(spec: IdsFeature, frame: DataFrame, scene: Scene) -> tuple[DataFrame, dict[str, Any]]:
    """The first tokens' ids in their order, padded at the end.

    Each distinct text is looked up once, however many rows have it.
    """
    source, prefix = spec.tokens()[spec.name], f"_{spec.name}_"
    rules = scene.config.vocabulary(source.vocabulary)
    assert source.separator is not None
    listed = tokens(source.columns[0], source.separator, None if rules.share_domains else scene.domain)
    texts = scene.impressions.select(column(source.columns[0]).alias(f"{prefix}text"), listed.alias("listed")).where(
        "size(listed) > 0"
    )
    parts = texts.dropDuplicates([f"{prefix}text"]).select(
        f"{prefix}text", F.posexplode(F.slice("listed", 1, spec.length)).alias("place", "part")
    )
    found = scene.vocabularies.join(parts, source.vocabulary, F.col("part"), "_")
    each = F.struct(
        "place",
        encoded(F.col("_token"), F.col("_id"), rules.oov_buckets).alias("own"),
        encoded(F.col("_token"), F.lit(None).cast("bigint"), rules.oov_buckets).alias("bucket"),
        F.col("_admitted").alias("admitted"),
    )
    coded = found.groupBy(f"{prefix}text").agg(F.array_sort(F.collect_list(each)).alias(f"{prefix}ids"))
    frame = frame.join(coded, column(source.columns[0]) == F.col(f"{prefix}text"), "left").drop(f"{prefix}text")
    ids = F.transform(
        F.col(f"{prefix}ids"),
        lambda part: F.when(part["admitted"] <= F.col("event_date"), part["own"]).otherwise(part["bucket"]),
    )
    none = F.array_repeat(F.lit(PADDING).cast("bigint"), spec.length)
    return frame, {spec.name: F.slice(F.concat(F.coalesce(ids, F.slice(none, 1, 0)), none), 1, spec.length)}
