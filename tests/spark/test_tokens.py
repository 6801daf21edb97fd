"""Tokens and buckets on Spark equal those in Python, for the same stored vectors."""

import json
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from ecdctr.etl.lane_keys import spark_hash
from ecdctr.etl.tokens import bucket, bucket_of_id, encoded, token
from ecdctr.features.encoding import bucket_id, bucket_of_token
from ecdctr.lake.frames import local_frame

pytestmark = pytest.mark.spark

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tokens.json").read_text())


def test_spark_and_python_put_every_token_into_the_same_bucket(spark):
    frame = local_frame(spark, [(vector["token"],) for vector in GOLDEN], "token string")
    for buckets in (1, 2, 97):
        found = {row["token"]: row["b"] for row in frame.select("token", bucket("token", buckets).alias("b")).collect()}
        assert found == {vector["token"]: bucket_of_token(vector["token"], buckets) for vector in GOLDEN}


def test_spark_and_python_find_the_same_bucket_of_an_id(spark):
    ids = spark.range(0, 40)
    found = ids.select("id", bucket_of_id(F.col("id"), 7).alias("b")).collect()
    assert [row["b"] for row in found] == [bucket_id(number, 7) for number in range(40)]


def test_missing_unknown_and_crossed_tokens(spark):
    rows = [("x", "y", 9), ("x", None, None), (None, "", None), ("", "y", 9)]
    frame = local_frame(spark, rows, "a string, b string, own long")
    found = frame.select(
        token(["a"], None).alias("single"),
        token(["a", "b"], None).alias("cross"),
        token(["a"], "ad").alias("marked"),
        encoded(token(["a"], None), F.col("own"), 5).alias("id"),
    ).collect()
    unknown = 2 + bucket_of_token("x", 5)
    assert [tuple(row) for row in found] == [
        ("x", "x\x1fy", "ad\x1fx", 9),
        ("x", "x\x1f", "ad\x1fx", unknown),
        (None, None, None, 1),
        (None, "\x1fy", None, 1),
    ]


def test_lane_keys_lead_to_the_tasks_that_they_name(spark):
    numbers = [0, 1, 77, 2**31 - 1, -5]
    frame = local_frame(spark, [(number,) for number in numbers], "n int")
    assert [row["h"] for row in frame.select(F.hash("n").alias("h")).collect()] == [spark_hash(n) for n in numbers]
