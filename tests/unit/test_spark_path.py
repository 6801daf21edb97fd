"""Paths that Spark is given name files of this machine unless they say otherwise."""

from pathlib import Path

import pytest

from ecdctr.lake.paths import spark_path

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("/logs/natural", "file:/logs/natural"),
        (Path("/logs/natural"), "file:/logs/natural"),
        ("/my logs/5%20 of/day_*.csv", "file:/my logs/5%20 of/day_*.csv"),
        ("logs", "file:/work/logs"),
        ("file:///logs/a%20b", "file:///logs/a%20b"),
        ("file:/logs/a b", "file:/logs/a b"),
        ("hdfs:/tables/scores", "hdfs:/tables/scores"),
        ("hdfs://head:8020/logs", "hdfs://head:8020/logs"),
        ("s3a://bucket/logs/*.parquet", "s3a://bucket/logs/*.parquet"),
    ],
)
def test_a_path_without_a_scheme_gets_that_of_local_files(monkeypatch, given, wanted):
    monkeypatch.setattr("os.getcwd", lambda: "/work")
    assert spark_path(given) == wanted
