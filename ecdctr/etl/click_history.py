"""The sorted pass over samples and clicks, on Arrow batches; it runs in Spark's Python workers.

It imports nothing but numpy and pyarrow, since every worker pays for each import anew.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecdctr.lake.python_workers import keep_archives_read

Longs = npt.NDArray[np.int64]

SAMPLE = -1
"""`_domain` of a row that is to get sequences; other rows are clicks of the domain with that place."""
PADDING = 0
FIRST_TIME = 2
CHUNK_ROWS = 2048
"""Rows handled at once; with times below year 2100 the key user · span + time of so many users fits 63 bits."""
CHUNK_CELLS = 2_000_000
_WORK = ("_micros", "_domain", "day")
SECOND = 1_000_000


@dataclass(frozen=True)
class Channel:
    """An id that each click has: its item, or an attribute of it.

    Attributes:
        value: Column of the id.
        known: Column of the day number from which it is known; before, it stands as its bucket.
        bucket_ids: First id of the out-of-vocabulary buckets, and how many there are; tokens follow.
    """

    value: str
    known: str
    bucket_ids: tuple[int, int]


@dataclass(frozen=True)
class Sequence:
    """One sequence to build.

    Attributes:
        length: Clicks in it.
        domains: Places of the domains whose clicks count.
        delay: Microseconds until a click is known.
        channels: What to list of each click; one column each.
        times: Whether a further column tells how long ago each click was: 2 + the bits of the seconds.
    """

    length: int
    domains: tuple[int, ...]
    delay: int
    channels: tuple[Channel, ...]
    times: bool = False

    @property
    def lists(self) -> int:
        """Columns that it gives."""
        return len(self.channels) + self.times


@dataclass(frozen=True)
class _Clicks:
    """Clicks in order: which user of the chunk, when, and for each channel its id and from which day that is known."""

    user: Longs
    micros: Longs
    values: Longs
    known: Longs

    def __getitem__(self, key: Any) -> "_Clicks":
        return _Clicks(self.user[key], self.micros[key], self.values[key], self.known[key])

    def followed_by(self, other: "_Clicks") -> "_Clicks":
        """Both, in order."""
        names = ("user", "micros", "values", "known")
        return _Clicks(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


def history_pass(
    sequences: list[Sequence], names: list[str]
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """A function for `mapInArrow` over rows sorted by user, time and event id.

    Args:
        sequences: The sequences to build, all from the same clicks.
        names: Columns of the result: those of the samples to keep, then those of each sequence in turn.

    Returns:
        A function that gives the samples, in their order, with their sequences, and leaves the clicks out.
    """
    size = max(1, min(CHUNK_ROWS, CHUNK_CELLS // sum(spec.length * spec.lists for spec in sequences)))
    work = {*_WORK, *(name for spec in sequences for c in spec.channels for name in (c.value, c.known))}

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        keep_archives_read()
        states = [History(spec) for spec in sequences]
        last_user = None
        for batch in batches:
            for start in range(0, batch.num_rows, size):
                chunk = batch.slice(start, size)
                users = chunk.column("user")
                place = _user_places(users)
                goes_on = users[0].as_py() == last_user
                last_user = users[-1].as_py()
                values = {name: _longs(chunk.column(name)) for name in work}
                is_sample = values["_domain"] == SAMPLE
                lists = [made for state in states for made in state.step(place, values, is_sample, goes_on)]
                if is_sample.any():
                    mask = pa.array(is_sample)
                    columns = [chunk.column(name).filter(mask) for name in names[: -len(lists)]]
                    yield pa.RecordBatch.from_arrays([*columns, *lists], names)

    return run


class History:
    """The running clicks of one sequence."""

    def __init__(self, spec: Sequence) -> None:
        self.spec = spec
        none = np.empty((0, len(spec.channels)), np.int64)
        self.carried = _Clicks(np.empty(0, np.int64), np.empty(0, np.int64), none, none)

    def step(
        self, place: Longs, values: dict[str, Longs], is_sample: npt.NDArray[np.bool_], goes_on: bool
    ) -> list[pa.Array]:
        """The columns of a chunk's samples.

        Args:
            place: For each row, which user of the chunk, ascending from 0.
            values: The chunk's columns.
            is_sample: Which rows are samples; the others are clicks.
            goes_on: Whether the first user is the last one of the chunk before.
        """
        spec, micros = self.spec, values["_micros"]
        here = np.isin(values["_domain"], spec.domains)
        ids, days = (
            np.stack([values[column][here] for column in columns], 1)
            for columns in ([c.value for c in spec.channels], [c.known for c in spec.channels])
        )
        known = _Clicks(place[here], micros[here], ids, days)
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
        self.carried = replace(still_needed, user=np.zeros_like(still_needed.user))
        return self._lists(known, first[:-1], end[:-1], values["day"][is_sample], row_micros[:-1])

    def _lists(self, known: _Clicks, first: Longs, end: Longs, day: Longs, micros: Longs) -> list[pa.Array]:
        at = end[:, None] - 1 - np.arange(self.spec.length)
        there = at >= first[:, None]
        row, at = np.nonzero(there)[0], at[there]
        lists = []
        for place, channel in enumerate(self.spec.channels):
            bucket, buckets = channel.bucket_ids
            item, least = known.values[at, place], bucket + buckets
            in_time = known.known[at, place] <= day[row]
            lists.append(_padded(there, np.where(in_time | (item < least), item, bucket + (item - least) % buckets)))
        if self.spec.times:
            # The exponent of a whole number's floating-point form is how many bits it has.
            bits = np.frexp((micros[row] - known.micros[at]) // SECOND)[1]
            lists.append(_padded(there, FIRST_TIME + bits.astype(np.int64)))
        return lists


def _padded(there: npt.NDArray[np.bool_], values: Longs) -> pa.Array:
    """Lists of one length: the values where there are some, in order, and padding elsewhere."""
    items = np.full(there.shape, PADDING, np.int64)
    items[there] = values
    offsets = np.arange(0, items.size + 1, there.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, items.ravel())


def _user_places(users: pa.Array) -> Longs:
    changes = pc.not_equal(users.slice(1), users.slice(0, len(users) - 1)).to_numpy(zero_copy_only=False)
    places: Longs = np.concatenate([[0], np.cumsum(changes)]).astype(np.int64)
    return places


def _longs(values: pa.Array) -> Longs:
    filled: Longs = values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return filled
