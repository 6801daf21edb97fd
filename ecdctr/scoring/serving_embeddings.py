"""The aggregated historical vectors of a version as rows of the `serving_embeddings` table."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr.lake.tables import Lake
from ecdctr.scoring.snapshots import IDS_PER_TASK
from ecdctr.scoring.workers import opened_parts

TABLE = "serving_embeddings"
NOBODY = 0
"""The padding id, which has no history: its vector is that of everybody without one."""
ROWS = 8192
"""Ids aggregated at a time."""


class Aggregates(Protocol):
    """A version that pools snapshots."""

    def aggregated(self, entity: str, ids: torch.Tensor, day: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors `(n, D)`, and which ids `(n,)` have a history."""


def append_serving_embeddings(
    lake: Lake, version: str, rows: Mapping[str, int], day: int, open_version: Callable[[], Aggregates]
) -> None:
    """Append the vectors of all ids that have a history, and of nobody, in one commit; repeating the call changes nothing.

    The executors aggregate some thousand ids at a time from the version's snapshots; none passes through the driver.

    Args:
        lake: The tables.
        version: The A-CTR version.
        rows: By entity, the first id that no snapshot knows.
        day: Day of the requests, days since 1970: which snapshots are aggregated.
        open_version: Called in each worker; it is sent there, and should give the same object again.
    """
    frames = [
        lake.spark.range(0, count, 1, max(1, count // IDS_PER_TASK)).mapInArrow(
            _reader(entity, day, open_version), "entity string, id bigint, vector array<float>"
        )
        for entity, count in rows.items()
    ]
    named = reduce(DataFrame.unionByName, frames).withColumn("model_version", F.lit(version))
    try:
        lake.append(TABLE, named.coalesce(4), txn=transaction(version))
    except (PySparkException, Py4JError):
        # Another job may have written the same, or this one's commit has landed and its answer was lost.
        if not has_serving_embeddings(lake, version):
            raise


def has_serving_embeddings(lake: Lake, version: str) -> bool:
    """Whether the vectors of a version are there."""
    application, number = transaction(version)
    return (lake.transaction(TABLE, application) or 0) >= number


def transaction(version: str) -> tuple[str, int]:
    """By which the table's log knows that a version was written."""
    return f"{TABLE}/{version}", 1


def _reader(
    entity: str, day: int, open_version: Callable[[], Aggregates]
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for version, part in opened_parts(batches, open_version, ROWS):
            ids = torch.tensor(part.column(0).to_numpy())
            vectors, known = version.aggregated(entity, ids, day)
            kept = known | (ids == NOBODY)
            values = vectors[kept].numpy()
            offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
            columns = [
                pa.array([entity] * len(values), pa.string()),
                pa.array(ids[kept].numpy()),
                pa.ListArray.from_arrays(offsets, values.ravel()),
            ]
            yield pa.RecordBatch.from_arrays(columns, ["entity", "id", "vector"])

    return read
