"""A table outside the warehouse that a job writes whole days of, where its caller wants it."""

import datetime as dt
from pathlib import Path

from delta.tables import DeltaTable
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from ecdctr.exceptions import InputError, TemporaryError
from ecdctr.lake.paths import spark_path
from ecdctr.lake.schema import TableSpec
from ecdctr.lake.tables import create_table


def is_delta(spark: SparkSession, path: str) -> bool:
    """Whether a Delta table lies at a path, which may be one of another file system."""
    return bool(DeltaTable.isDeltaTable(spark, spark_path(path)))


def refuse_other_content(spark: SparkSession, path: str, spec: TableSpec) -> None:
    """Refuse to write where something else lies.

    Args:
        spark: The session.
        path: Folder of the table.
        spec: What is to be written.

    Raises:
        InputError: A file, a folder with other files, or a table with other columns.
    """
    hint = "name another folder: a new one, or one that an earlier call has written"
    if not is_delta(spark, path):
        local = Path(path)
        if "://" not in path and local.exists() and (local.is_file() or any(local.iterdir())):
            raise InputError(f"{path} exists and is no Delta table", hint=hint)
        return
    found, wanted = spark.read.format("delta").load(spark_path(path)).columns, [column.name for column in spec.columns]
    if found != wanted:
        raise InputError(f"{path} has columns {', '.join(found)}; expected {', '.join(wanted)}", hint=hint)


def replace_day(spark: SparkSession, path: str, spec: TableSpec, rows: DataFrame, day: dt.date) -> int:
    """Replace a day of the table by some rows in one commit; the table is created where it is not there.

    Args:
        spark: The session.
        path: Folder of the table.
        spec: Its columns, comments and constraints.
        rows: Rows of this day alone; a row of another day fails the write.
        day: The day.

    Returns:
        The rows that the day has.

    Raises:
        TemporaryError: Another writer came between.
    """
    try:
        create_table(spark, path, spec)
        condition = f"event_date = DATE'{day}'"
        rows.write.format("delta").mode("overwrite").option("replaceWhere", condition).save(spark_path(path))
        return spark.read.format("delta").load(spark_path(path)).where(condition).count()
    except (PySparkException, Py4JError) as error:
        if "Concurrent" not in str(error):
            raise
        raise TemporaryError(f"{path}: another job wrote it first", hint="run the command again") from error
