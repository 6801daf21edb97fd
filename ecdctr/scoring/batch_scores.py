"""Encoded rows → probabilities, where the rows lie: every Python worker of Spark opens the version once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.lake.python_workers import keep_archives_read

ROWS = 2048
"""Rows that a model takes at a time."""


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
        keep_archives_read()
        # The cores belong to Spark's tasks.
        torch.set_num_threads(1)
        version = open_version()
        for whole in batches:
            for start in range(0, whole.num_rows, ROWS):
                part = whole.slice(start, ROWS)
                found = version.probabilities(batch_of(part, version.features))
                columns = [*(part.column(name) for name in kept), pa.array(found, pa.float64())]
                yield pa.RecordBatch.from_arrays(columns, [*kept, "probability"])

    return rows.mapInArrow(score, schema)


def batch_of(rows: pa.RecordBatch, features: FeatureSet) -> Batch:
    """Encoded rows as models take them; sequences end where the longest one does.

    Args:
        rows: The columns of the sample contract, without nulls, and `day`.
        features: The sample contract.
    """
    count = rows.num_rows
    numbers = [_array(rows, name, np.float32) for name in features.number_fields]
    sequences: dict[str, torch.Tensor] = {}
    for name in features.list_fields:
        columns = [name, *features.attributes(name)]
        lists = {
            column: rows.column(column).flatten().to_numpy(zero_copy_only=False).reshape(count, -1)
            for column in columns
        }
        used = [np.flatnonzero(values.any(0)) for values in lists.values()]
        length = max([1, *(int(places[-1]) + 1 for places in used if places.size)])
        sequences |= {column: torch.tensor(values[:, :length], dtype=torch.int64) for column, values in lists.items()}
    return Batch(
        ids=torch.from_numpy(np.stack([_array(rows, name, np.int64) for name in features.id_fields], 1)),
        numbers=torch.from_numpy(np.stack(numbers, 1)) if numbers else torch.zeros(count, 0),
        sequences={name: sequences[name] for name in features.sequence_fields},
        label=torch.zeros(count),
        weight=torch.ones(count),
        day=torch.from_numpy(_array(rows, "day", np.int64)),
    )


def _array(rows: pa.RecordBatch, name: str, dtype: type[np.generic]) -> NDArray[np.generic]:
    # A copy: Arrow's memory is not to be written to.
    return np.array(rows.column(name).to_numpy(zero_copy_only=False), dtype=dtype)
