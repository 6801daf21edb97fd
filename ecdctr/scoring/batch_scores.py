"""Encoded rows → probabilities, where the rows lie: every Python worker of Spark opens the version once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from ecdctr.data.batch import Batch
from ecdctr.data.rows import to_batch, to_rows
from ecdctr.data.shard_plan import FileRows
from ecdctr.features import FeatureSet
from ecdctr.scoring.workers import opened_parts

ROWS = 2048
"""Rows that a model takes at a time."""
UNKNOWN = {"label": 0.0, "weight": 1.0}
"""Columns of samples that rows to be scored do not have."""


class Scores(Protocol):
    """A version that scores."""

    @property
    def features(self) -> FeatureSet:
        """The sample contract."""

    def probabilities(self, batch: Batch) -> NDArray[np.float64]:
        """`(B,)`."""


def with_probabilities(rows: DataFrame, kept: Sequence[str], open_version: Callable[[], Scores]) -> DataFrame:
    """Score rows in all tasks.

    Args:
        rows: The columns of the sample contract, and `day`.
        kept: Columns of the result; `probability` follows.
        open_version: Called in each worker; it is sent there, and should give the same object again.
    """
    schema = T.StructType([*(rows.schema[name] for name in kept), T.StructField("probability", T.DoubleType())])

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for version, part in opened_parts(batches, open_version, ROWS):
            found = version.probabilities(batch_of(part, version.features))
            columns = [*(part.column(name) for name in kept), pa.array(found, pa.float64())]
            yield pa.RecordBatch.from_arrays(columns, [*kept, "probability"])

    return rows.mapInArrow(score, schema)


def batch_of(rows: pa.RecordBatch, features: FeatureSet) -> Batch:
    """Encoded rows as models take them; labels are 0 and weights 1, since nobody knows them yet.

    Args:
        rows: The columns of the sample contract, without nulls, and `day`.
        features: The sample contract.
    """
    given = FileRows("encoded rows", rows.num_rows, constants=UNKNOWN)
    return to_batch([to_rows(pa.Table.from_batches([rows]), given, features, False, None)], features, False)
