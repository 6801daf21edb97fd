"""The encoding of ids, against values that must never change: stored tables and models depend on them."""

import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecdctr.features.encoding import bucket_id, bucket_of_token, first_token_id, rows_after_blocks, token_id

pytestmark = pytest.mark.unit

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tokens.json").read_text())


@pytest.mark.parametrize("vector", GOLDEN, ids=lambda vector: ascii(vector["token"]))
@pytest.mark.parametrize("buckets", [1, 2, 97])
def test_a_token_falls_into_the_bucket_of_its_crc(vector, buckets):
    assert zlib.crc32(vector["token"].encode()) == vector["crc32"]
    assert bucket_of_token(vector["token"], buckets) == vector["crc32"] % buckets


def test_ids_of_three_buckets_written_out():
    assert first_token_id(3) == 5
    assert [token_id(bucket, block, 3) for block in (0, 1) for bucket in (0, 1, 2)] == [5, 6, 7, 8, 9, 10]
    assert [bucket_id(encoded, 3) for encoded in range(11)] == [0, 1, 2, 3, 4, 2, 3, 4, 2, 3, 4]
    assert [rows_after_blocks(blocks, 3) for blocks in (0, 1, 2)] == [5, 8, 11]


@given(st.text(min_size=1), st.integers(1, 1000), st.integers(0, 2**40))
def test_the_bucket_is_told_from_the_id_alone(token, buckets, block):
    bucket = bucket_of_token(token, buckets)
    encoded = token_id(bucket, block, buckets)
    assert bucket_id(encoded, buckets) == 2 + bucket
    assert rows_after_blocks(block, buckets) <= encoded < rows_after_blocks(block + 1, buckets)
