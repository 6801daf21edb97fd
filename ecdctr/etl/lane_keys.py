"""Numbers that Spark's hash partitioning sends to a wanted task, found without asking Spark."""

import functools
import itertools

_MASK = 0xFFFFFFFF
_SEED = 42
"""Of Spark's hash partitioning."""


def spark_hash(number: int) -> int:
    """What Spark's `hash` gives for an `int`: 32-bit MurmurHash3 (A. Appleby) of its four bytes."""
    word = _rotated((number & _MASK) * 0xCC9E2D51 & _MASK, 15) * 0x1B873593 & _MASK
    mixed = (_rotated(_SEED ^ word, 13) * 5 + 0xE6546B64) & _MASK
    mixed ^= 4
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B & _MASK
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & _MASK
    mixed ^= mixed >> 16
    return mixed - (1 << 32) if mixed >> 31 else mixed


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & _MASK


@functools.lru_cache
def lane_keys(lanes: int) -> tuple[int, ...]:
    """For each of some lanes the smallest number whose rows go to the task of that place among as many tasks."""
    keys: dict[int, int] = {}
    numbers = itertools.count()
    while len(keys) < lanes:
        number = next(numbers)
        keys.setdefault(spark_hash(number) % lanes, number)
    return tuple(keys[lane] for lane in range(lanes))
