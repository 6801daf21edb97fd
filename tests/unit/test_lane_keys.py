"""Keys lead rows to tasks as Spark's own hash does; its values here were printed by `SELECT hash(n)`."""

import pytest

from ecdctr.etl.lane_keys import lane_keys, spark_hash

pytestmark = pytest.mark.unit


def test_the_hash_is_that_of_spark():
    assert [spark_hash(number) for number in range(3)] == [933211791, -559580957, 1765031574]


@pytest.mark.parametrize("lanes", [1, 2, 4, 7, 64])
def test_each_lane_has_a_key_of_its_own(lanes):
    keys = lane_keys(lanes)
    assert [spark_hash(key) % lanes for key in keys] == list(range(lanes))
