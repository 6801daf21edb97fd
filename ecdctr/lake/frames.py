"""Rows of the driver as a Spark frame."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType


def local_frame(
    spark: SparkSession, rows: Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]], schema: StructType | str
) -> DataFrame:
    """A frame of a few rows, which the JVM holds as they are.

    They travel as Arrow: a frame that Spark makes of Python rows is worked out by Python workers each time it is read.

    Args:
        spark: The session.
        rows: Mappings by column, null where one lacks it, or sequences in the order of columns; times with their zone.
        schema: Columns as Spark knows them, or as DDL.

    Raises:
        pyarrow.ArrowException: A value does not fit its column.
    """
    fields = cast("StructType", schema if isinstance(schema, StructType) else StructType.fromDDL(schema))
    types = to_arrow_schema(fields)
    arrays = []
    for place, field in enumerate(types):
        values = [row.get(field.name) if isinstance(row, Mapping) else row[place] for row in rows]
        if pa.types.is_map(field.type):
            values = [None if value is None else list(value.items()) for value in values]
        arrays.append(pa.array(values, field.type))
    table: Any = pa.Table.from_arrays(arrays, schema=types)
    return spark.createDataFrame(table, fields)
