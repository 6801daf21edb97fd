"""A user's latest clicks as of each impression: one pass over rows sorted by user and time.

Samples and clicks of a user meet in one partition, sorted; batches stream through a vectorised pass that keeps nothing
but the clicks of the current user that a later row may still see. A user with half of all rows costs no more memory
than any other, and no row ever meets a click that is not strictly earlier.
"""

from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ecdctr.config import Config
from ecdctr.etl.click_history import SAMPLE, SECOND, Channel, Sequence, history_pass
from ecdctr.etl.scene import Scene
from ecdctr.features.columns import ClickLists, TokenSource
from ecdctr.features.encoding import FIRST_BUCKET
from ecdctr.features.feature_set import token_sources
from ecdctr.lake.schema import CLICKED_AT, DOMAINS


def clicks(scene: Scene) -> DataFrame:
    """Every click before the scene's end that some feature lists.

    Returns:
        event_id, user, _micros, _domain, and two columns per channel: its id, and the day number from which it has that
        id; before, it is its bucket's.
    """
    asked = click_lists(scene.config)
    frames = []
    for domain in DOMAINS:
        if not any(domain in lists.domains for lists in asked):
            continue
        there = replace(scene, domain=domain)
        frame = scene.past([domain], None, scene.until).where("label = 1")
        made: dict[str, Any] = {}
        for field, source in _channels(scene.config).items():
            prefix = f"_{field}_"
            frame = there.look_up(frame, source.vocabulary, there.token(source), prefix)
            own = there.id_of(source.vocabulary, F.col(f"{prefix}token"), F.col(f"{prefix}id"))
            known = F.coalesce(F.unix_date(f"{prefix}admitted"), F.lit(0))
            made |= {f"_value_{field}": own, f"_known_{field}": known}
        frames.append(
            frame.select(
                "event_id",
                F.col("user_id").alias("user"),
                F.unix_micros(CLICKED_AT.name).alias("_micros"),
                F.lit(DOMAINS.index(domain)).alias("_domain"),
                *(value.alias(name) for name, value in made.items()),
            )
        )
    merged = frames[0]
    for frame in frames[1:]:
        merged = merged.unionByName(frame)
    return merged


def _channels(config: Config) -> dict[str, TokenSource]:
    """What is listed of clicks."""
    sources = token_sources(config.dataset.features)
    return {field: sources[field] for lists in click_lists(config) for field in lists.fields}


def click_lists(config: Config) -> list[ClickLists]:
    """What features list of clicks."""
    found = (spec.clicks() for spec in config.dataset.features)
    return [lists for lists in found if lists is not None]


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
    specs = [spec for spec in config.dataset.features if spec.clicks() is not None]
    rows = samples.withColumns({"_micros": F.unix_micros("event_time"), "_domain": F.lit(SAMPLE)}).drop("event_time")
    merged = rows.unionByName(clicked, allowMissingColumns=True)
    ordered = merged.repartition("user").sortWithinPartitions("user", "_micros", "event_id")
    out = T.StructType(
        [
            *samples.drop("event_time").schema.fields,
            *(T.StructField(column.name, T.ArrayType(T.LongType())) for spec in specs for column in spec.columns()),
        ]
    )
    return ordered.mapInArrow(history_pass([_sequence(lists, config) for lists in click_lists(config)], out.names), out)


def _sequence(lists: ClickLists, config: Config) -> Sequence:
    sources = _channels(config)
    channels = tuple(
        Channel(
            f"_value_{field}",
            f"_known_{field}",
            (FIRST_BUCKET, config.vocabulary(sources[field].vocabulary).oov_buckets),
        )
        for field in lists.fields
    )
    domains = tuple(DOMAINS.index(domain) for domain in lists.domains)
    return Sequence(lists.length, domains, lists.delay_seconds * SECOND, channels, lists.times)
