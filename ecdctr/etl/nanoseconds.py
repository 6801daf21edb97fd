"""Parquet times in nanoseconds, as pandas and Arrow write them: Spark has no such type and refuses the whole file."""

import re
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

_COLUMN = re.compile(r"^  (?:optional|required) int64 (.+) \(TIMESTAMP\(NANOS,(?:true|false)\)\)", re.MULTILINE)


def read_parquet(spark: SparkSession, path: str) -> DataFrame:
    """A Parquet file or folder; columns of nanoseconds are timestamps, cut to the microsecond.

    Times of that kind that were written without a zone are taken as UTC. From here on the session itself reads such columns as
    whole numbers instead of refusing the file: rows are read long after this call, by the setting of that moment.

    Args:
        spark: The session.
        path: The file, the folder or a pattern of them, on any file system of the session.
    """
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    frame = spark.read.parquet(path)
    if not any(isinstance(field.dataType, T.LongType) for field in frame.schema):
        return frame
    stated = set(_COLUMN.findall(_schema(spark, frame.inputFiles()[0])))
    return frame.withColumns({name: _timestamp(name) for name in frame.columns if name in stated})


def _schema(spark: SparkSession, file: str) -> str:
    """The schema in a file's footer, as Parquet writes it: only there do numbers and nanoseconds still differ."""
    jvm: Any = spark._jvm
    configuration = spark._jsparkSession.sessionState().newHadoopConf()
    opened = jvm.org.apache.parquet.hadoop.util.HadoopInputFile.fromPath(
        jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(file)), configuration
    )
    reader = jvm.org.apache.parquet.hadoop.ParquetFileReader.open(opened)
    try:
        return str(reader.getFooter().getFileMetaData().getSchema().toString())
    finally:
        reader.close()


def _timestamp(name: str) -> Any:
    quoted = "`" + name.replace("`", "``") + "`"
    return F.timestamp_micros(F.expr(f"({quoted} - pmod({quoted}, 1000)) div 1000"))
