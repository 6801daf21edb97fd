"""What a Python worker of Spark does with a published version: open it once, then take the task's rows part by part."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import pyarrow as pa
import torch

from ecdctr.lake.python_workers import keep_archives_read

T = TypeVar("T")


def opened_parts(
    batches: Iterable[pa.RecordBatch], open_version: Callable[[], T], rows: int
) -> Iterator[tuple[T, pa.RecordBatch]]:
    """The version beside each part of a task's rows; called in workers only.

    Args:
        batches: The rows of a task.
        open_version: Gives the version; within one worker it should be the same object again.
        rows: Most rows of a part.
    """
    keep_archives_read()
    # The cores belong to Spark's tasks.
    torch.set_num_threads(1)
    version = open_version()
    for whole in batches:
        for start in range(0, whole.num_rows, rows):
            yield version, whole.slice(start, rows)
