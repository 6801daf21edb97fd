"""A snapshot of historical embeddings as rows of the `tpm_embeddings` table."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.sql import functions as F

from ecdctr.lake.python_workers import keep_archives_read
from ecdctr.lake.tables import Lake

ENTITIES = ("user", "item")
IDS_PER_TASK = 250_000


def append_snapshot(lake: Lake, folder: Path, version: str, date: dt.date) -> None:
    """Append the vectors of all ids that the snapshot has trained; repeating the call changes nothing.

    The executors read the vectors memory-mapped from the version's folder; none passes through the driver.

    Args:
        lake: The tables.
        folder: The version's folder, with `user.npy`, `item.npy` and which of their rows are present.
        version: The TPM version.
        date: The snapshot's date: the first day it has not seen.
    """
    frame = None
    for entity in ENTITIES:
        rows = np.load(folder / f"{entity}.npy", mmap_mode="r").shape[0]
        ids = lake.spark.range(0, rows, 1, max(1, rows // IDS_PER_TASK))
        part = ids.mapInPandas(_reader(str(folder), entity), "entity string, id bigint, vector array<float>")
        frame = part if frame is None else frame.unionByName(part)
    assert frame is not None
    named = frame.withColumns({"snapshot": F.lit(date), "model_version": F.lit(version)})
    lake.append("tpm_embeddings", named.coalesce(4), txn=(f"tpm_embeddings/{version}", 1))


def _reader(folder: str, entity: str):  # type: ignore[no-untyped-def]
    def read(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        keep_archives_read()
        vectors = np.load(f"{folder}/{entity}.npy", mmap_mode="r")
        present = np.load(f"{folder}/{entity}_present.npy", mmap_mode="r")
        for batch in batches:
            ids = batch["id"].to_numpy()
            ids = ids[present[ids]]
            if not len(ids):  # a list column of no rows has no type that Arrow could read from it
                continue
            yield pd.DataFrame({"entity": entity, "id": ids, "vector": list(vectors[ids])})

    return read
