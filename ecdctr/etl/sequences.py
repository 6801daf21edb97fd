"""A user's latest clicks as of each impression: one pass over rows sorted by user and time.

Samples and clicks of a user meet in one partition, sorted; batches stream through a vectorised pass that keeps nothing
but the clicks of the current user that a later row may still see. A user with half of all rows costs no more memory
than any other, and no row ever meets a click that is not strictly earlier.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ecdctr.config import Config
from ecdctr.config.features import SequenceFeature
from ecdctr.etl.encode import Vocabularies
from ecdctr.etl.tokens import encoded, token
from ecdctr.features.encoding import FIRST_BUCKET, PADDING, first_token_id
from ecdctr.features.feature_set import ITEM
from ecdctr.lake.schema import DOMAINS
from ecdctr.lake.tables import Lake

Longs = npt.NDArray[np.int64]

SAMPLE = -1
CHUNK_ROWS = 2048
"""Rows handled at once; with times below year 2100 the key user · span + time of so many users fits 63 bits."""
CHUNK_CELLS = 2_000_000
_WORK = ("_micros", "_domain", "_item", "_known")


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
        The samples, less `event_time`, with one `array<bigint>` of exactly its length per sequence, most recent first, 0 at the end.
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
    return ordered.mapInArrow(_pass([_Sequence.of(spec, config) for spec in specs], out.names), out)


@dataclass(frozen=True)
class _Sequence:
    """What the pass must know of one sequence."""

    length: int
    domains: tuple[int, ...]
    delay: int
    oov_buckets: int

    @classmethod
    def of(cls, spec: SequenceFeature, config: Config) -> "_Sequence":
        domains = tuple(DOMAINS.index(domain) for domain in spec.domains)
        return cls(spec.length, domains, spec.delay_seconds * 1_000_000, config.vocabulary(ITEM).oov_buckets)


@dataclass(frozen=True)
class _Clicks:
    """Clicks in order: which user of the chunk, when, which item, known from which day."""

    user: Longs
    micros: Longs
    item: Longs
    known: Longs

    def __getitem__(self, key: Any) -> "_Clicks":
        return _Clicks(self.user[key], self.micros[key], self.item[key], self.known[key])

    def followed_by(self, other: "_Clicks") -> "_Clicks":
        """Both, in order."""
        names = ("user", "micros", "item", "known")
        return _Clicks(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


_NOTHING = _Clicks(*(np.empty(0, np.int64) for _ in range(4)))


def _pass(
    sequences: list[_Sequence], names: list[str]
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    size = max(1, min(CHUNK_ROWS, CHUNK_CELLS // max(spec.length for spec in sequences)))

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        states = [_History(spec) for spec in sequences]
        last_user = None
        for batch in batches:
            for start in range(0, batch.num_rows, size):
                chunk = batch.slice(start, size)
                users = chunk.column("user")
                place = _user_places(users)
                goes_on = users[0].as_py() == last_user
                last_user = users[-1].as_py()
                values = {name: _longs(chunk.column(name)) for name in (*_WORK, "day")}
                is_sample = values["_domain"] == SAMPLE
                lists = [state.step(place, values, is_sample, goes_on) for state in states]
                if is_sample.any():
                    mask = pa.array(is_sample)
                    columns = [chunk.column(name).filter(mask) for name in names[: -len(lists)]]
                    yield pa.RecordBatch.from_arrays([*columns, *lists], names)

    return run


class _History:
    """The running clicks of one sequence."""

    def __init__(self, spec: _Sequence) -> None:
        self.spec = spec
        self.carried = _NOTHING

    def step(self, place: Longs, values: dict[str, Longs], is_sample: npt.NDArray[np.bool_], goes_on: bool) -> pa.Array:
        """The sequences of a chunk's samples.

        Args:
            place: For each row, which user of the chunk, ascending from 0.
            values: The chunk's columns.
            is_sample: Which rows are samples; the others are clicks.
            goes_on: Whether the first user is the last one of the chunk before.
        """
        spec, micros = self.spec, values["_micros"]
        here = np.isin(values["_domain"], spec.domains)
        known = _Clicks(place[here], micros[here], values["_item"][here], values["_known"][here])
        if goes_on:
            known = self.carried.followed_by(known)
        base = min(int(micros.min()), int(known.micros.min()) if known.micros.size else int(micros.min()))
        span = int(micros.max()) - base + 1
        keys = known.user * span + (known.micros - base)
        row_user = np.append(place[is_sample], place[-1])
        row_micros = np.append(micros[is_sample], micros[-1])
        begin = row_user * span
        first = np.searchsorted(keys, begin)
        end = np.searchsorted(keys, begin + np.maximum(row_micros - base - spec.delay, 0))
        still_needed = known[max(int(end[-1]) - spec.length, int(first[-1])) :]
        self.carried = _Clicks(np.zeros_like(still_needed.user), *_without_user(still_needed))
        return self._lists(known, first[:-1], end[:-1], values["day"][is_sample])

    def _lists(self, known: _Clicks, first: Longs, end: Longs, day: Longs) -> pa.Array:
        length, buckets = self.spec.length, self.spec.oov_buckets
        at = end[:, None] - 1 - np.arange(length)
        there = at >= first[:, None]
        items = np.full(at.shape, PADDING, np.int64)
        at = at[there]
        item, least = known.item[at], first_token_id(buckets)
        in_time = known.known[at] <= np.broadcast_to(day[:, None], there.shape)[there]
        items[there] = np.where(in_time | (item < least), item, FIRST_BUCKET + (item - least) % buckets)
        offsets = np.arange(0, items.size + 1, length, dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, items.ravel())


def _without_user(known: _Clicks) -> tuple[Longs, Longs, Longs]:
    return known.micros, known.item, known.known


def _user_places(users: pa.Array) -> Longs:
    changes = pc.not_equal(users.slice(1), users.slice(0, len(users) - 1)).to_numpy(zero_copy_only=False)
    places: Longs = np.concatenate([[0], np.cumsum(changes)]).astype(np.int64)
    return places


def _longs(values: pa.Array) -> Longs:
    filled: Longs = values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return filled
