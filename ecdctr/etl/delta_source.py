"""A log that is a Delta table: which files its newest version has, rows of some of them, and what has changed since.

Names and sizes come from the table's own log, whatever its features, without a look into the files. Where the table keeps
a change data feed, the changed rows of some versions are read instead of the files that an update has written anew.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr.lake.paths import spark_path

_TAKEN = ("delete", "update_preimage")
CHANGE = "_change"
GIVEN, TAKEN = "changes +", "changes -"
FEED = "delta.enableChangeDataFeed"


@dataclass(frozen=True)
class DeltaSource:
    """A Delta table at its newest version when this was made.

    Args:
        spark: The session.
        path: The table's folder.
    """

    spark: SparkSession
    path: str

    @property
    def _place(self) -> str:
        return spark_path(self.path)

    @cached_property
    def _log(self) -> Any:
        jvm: Any = self.spark._jvm
        return jvm.org.apache.spark.sql.delta.DeltaLog.forTable(self.spark._jsparkSession, self._place)

    @cached_property
    def _snapshot(self) -> Any:
        jvm: Any = self.spark._jvm
        none = jvm.scala.Option.empty()
        return self._log.update(False, none, none)

    @cached_property
    def _root(self) -> str:
        return str(self._log.dataPath().toUri().toString()).rstrip("/")

    @cached_property
    def version(self) -> int:
        """The version's number."""
        return int(self._snapshot.version())

    @cached_property
    def table(self) -> str:
        """The table's own name for itself, by which one that was made anew in the same place is known."""
        return str(self._snapshot.metadata().id())

    @cached_property
    def has_feed(self) -> bool:
        """Whether the version keeps a change data feed."""
        configuration: Any = self._snapshot.metadata().configuration()
        found = configuration.get(FEED)
        return bool(found.isDefined()) and str(found.get()).lower() == "true"

    @cached_property
    def files(self) -> dict[str, str]:
        """Each active file as rows name it, and what tells it from the same file with other rows deleted beside it."""
        actions: Any = DataFrame(self._snapshot.allFiles().toDF(), self.spark)
        vector = F.coalesce("deletionVector.pathOrInlineDv", F.lit(""))
        rows = actions.select("path", vector.alias("vector"), "deletionVector.offset").collect()
        return {
            row["path"] if ":/" in row["path"] else f"{self._root}/{row['path']}": _stamp(row["vector"], row["offset"])
            for row in rows
        }

    def rows(self, files: Collection[str] | None = None) -> DataFrame:
        """The rows of this version, or those of some of its files; the others are not opened."""
        if files is None:
            return self.spark.read.format("delta").option("versionAsOf", self.version).load(self._place)
        jvm: Any = self.spark._jvm
        paths = [file.removeprefix(f"{self._root}/") for file in files]
        wanted = self._snapshot.allFiles().filter(F.col("path").isin(paths)._jc)
        adds = jvm.scala.jdk.javaapi.CollectionConverters.asScala(wanted.collectAsList()).toSeq()
        none = jvm.scala.Option.empty()
        return DataFrame(self._log.createDataFrame(self._snapshot, adds, False, none), self.spark)

    def changes(self, after: int) -> DataFrame:
        """The rows that came and went between a version and this one, `GIVEN` or `TAKEN` in the column `CHANGE`.

        Raises:
            PySparkException: The feed does not reach back so far; for lost files also when the rows are read.
        """
        reader = self.spark.read.format("delta").option("readChangeFeed", "true")
        rows = reader.option("startingVersion", after + 1).option("endingVersion", self.version).load(self._place)
        change = F.when(F.col("_change_type").isin(*_TAKEN), TAKEN).otherwise(GIVEN)
        return rows.withColumn(CHANGE, change).drop("_change_type", "_commit_version", "_commit_timestamp")


def _stamp(vector: str, offset: int | None) -> str:
    return f"{vector}:{offset}" if vector else ""
