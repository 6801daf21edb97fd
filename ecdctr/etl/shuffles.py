"""Joins and shuffles of very many tokens, cut so that each task's part can be sorted in the memory of a small heap."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame, SparkSession

from ecdctr.etl.scene import BROADCAST_TOKENS

ROWS_PER_TASK = 2_000_000
_KEY = "spark.sql.shuffle.partitions"


@contextmanager
def shuffles_of(spark: SparkSession, rows: int) -> Iterator[None]:
    """Give shuffles a task for every `ROWS_PER_TASK` rows, but no fewer than configured; adaptive execution merges small ones.

    Args:
        spark: The session, whose setting is put back at the end.
        rows: How many rows a shuffle may have.
    """
    before = spark.conf.get(_KEY)
    assert before is not None
    wanted = -(-rows // ROWS_PER_TASK)
    if wanted <= int(before):
        yield
        return
    spark.conf.set(_KEY, str(wanted))
    try:
        yield
    finally:
        spark.conf.set(_KEY, before)


def merged_if_many(tokens: DataFrame, rows: int) -> DataFrame:
    """Tokens to join with: never sent around whole where they may be many, however small their files are.

    Args:
        tokens: The smaller side of a join.
        rows: How many there may be.
    """
    return tokens.hint("merge") if rows > BROADCAST_TOKENS else tokens
