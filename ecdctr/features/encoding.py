"""The one encoding of ids, shared by Spark, by training and by serving.

    0                padding
    1                missing (null or empty)
    2 … 1 + o        out-of-vocabulary buckets; a token falls into bucket b = CRC-32(UTF-8 bytes) mod o
    2 + o …          the vocabulary: id = 2 + o + b + o·k for the k-th block

A vocabulary id is dealt within the residue class of its token's bucket, so that the bucket of every id can be told
from the id alone. A model that knew the first `rows` ids treats a later one as what it was to it: out of vocabulary.
New tokens of a day open a new block in all classes at once; so `rows` alone says what was known up to that day.
"""

import zlib

PADDING = 0
MISSING = 1
FIRST_BUCKET = 2
SEPARATOR = "\u001f"
"""Joins the parts of a token and the values of a list; the ASCII unit separator does not occur in names."""


def bucket_of_token(token: str, oov_buckets: int) -> int:
    """Out-of-vocabulary bucket (0-based) of a token: CRC-32 of its UTF-8 bytes modulo the buckets."""
    return zlib.crc32(token.encode()) % oov_buckets


def first_token_id(oov_buckets: int) -> int:
    """The smallest id that belongs to a token."""
    return FIRST_BUCKET + oov_buckets


def token_id(bucket: int, block: int, oov_buckets: int) -> int:
    """Id of the token that holds place `block` in its bucket's class."""
    return first_token_id(oov_buckets) + bucket + oov_buckets * block


def bucket_id(encoded: int, oov_buckets: int) -> int:
    """The id that an encoder without this token would have given."""
    first = first_token_id(oov_buckets)
    return encoded if encoded < first else FIRST_BUCKET + (encoded - first) % oov_buckets


def rows_after_blocks(blocks: int, oov_buckets: int) -> int:
    """Table rows needed for ids of the first `blocks` blocks."""
    return first_token_id(oov_buckets) + oov_buckets * blocks
