"""A user's latest clicks as of each impression: one pass over rows sorted by user and time.

Samples and clicks of a user meet in one partition, sorted; batches stream through a vectorised pass that keeps nothing
but the clicks of the current user that a later row may still see. A user with half of all rows costs no more memory
than any other, and no row ever meets a click that is not strictly earlier.
"""

import datetime as dt

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ecdctr.config import Config
from ecdctr.config.features import SequenceFeature
from ecdctr.etl.click_history import SAMPLE, Sequence, history_pass
from ecdctr.etl.encode import Vocabularies
from ecdctr.etl.tokens import encoded, token
from ecdctr.features.encoding import FIRST_BUCKET
from ecdctr.features.feature_set import ITEM
from ecdctr.lake.schema import DOMAINS
from ecdctr.lake.tables import Lake


def clicks(lake: Lake, config: Config, vocabularies: Vocabularies, until: dt.date) -> DataFrame:
    """Every click before `until` that some sequence remembers: event_id, user, _micros, _domain, _item, _known.

    `_item` is the item's id, `_known` the day number from which it has that id; before, it is its bucket's.
    """
    wanted = sorted({domain for spec in sequence_features(config) for domain in spec.domains})
    rules = config.vocabulary(ITEM)
    frames = []
    for domain in wanted:
        table = lake.read(f"{domain}_impressions").where((F.col("label") == 1) & (F.col("event_date") < F.lit(until)))
        text = token([ITEM], None if rules.share_domains else domain)
        frame = vocabularies.join(table.select("event_id", "user_id", "item_id", "event_time"), ITEM, text, "_")
        frames.append(
            frame.select(
                "event_id",
                F.col("user_id").alias("user"),
                F.unix_micros("event_time").alias("_micros"),
                F.lit(DOMAINS.index(domain)).alias("_domain"),
                encoded(F.col("_token"), F.col("_id"), rules.oov_buckets).alias("_item"),
                F.coalesce(F.unix_date("_admitted"), F.lit(0)).alias("_known"),
            )
        )
    merged = frames[0]
    for frame in frames[1:]:
        merged = merged.unionByName(frame)
    return merged


def sequence_features(config: Config) -> list[SequenceFeature]:
    """The sequences of the samples."""
    return [spec for spec in config.dataset.features if isinstance(spec, SequenceFeature)]


def with_sequences(samples: DataFrame, clicked: DataFrame, config: Config) -> DataFrame:
    """Add the sequence columns.

    Args:
        samples: Encoded rows with `event_id`, `user`, `day` and `event_time`.
        clicked: What `clicks` gives.
        config: The configuration.

    Returns:
        The samples, less `event_time`, with one `array<bigint>` of exactly its length per sequence, most recent
        first, 0 at the end.
    """
    specs = sequence_features(config)
    rows = samples.withColumns({"_micros": F.unix_micros("event_time"), "_domain": F.lit(SAMPLE)}).drop("event_time")
    merged = rows.unionByName(clicked, allowMissingColumns=True)
    ordered = merged.repartition("user").sortWithinPartitions("user", "_micros", "event_id")
    out = T.StructType(
        [
            *samples.drop("event_time").schema.fields,
            *(T.StructField(spec.name, T.ArrayType(T.LongType())) for spec in specs),
        ]
    )
    return ordered.mapInArrow(history_pass([_sequence(spec, config) for spec in specs], out.names), out)


def _sequence(spec: SequenceFeature, config: Config) -> Sequence:
    domains = tuple(DOMAINS.index(domain) for domain in spec.domains)
    return Sequence(
        spec.length, domains, spec.delay_seconds * 1_000_000, (FIRST_BUCKET, config.vocabulary(ITEM).oov_buckets)
    )
