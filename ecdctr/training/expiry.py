"""Ids whose tokens have expired are read as their buckets, in old samples and old sequences too."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ecdctr.data.batch import Batch
from ecdctr.exceptions import InputError
from ecdctr.features import FeatureSet
from ecdctr.features.encoding import FIRST_BUCKET


class Expired:
    """Which ids of which vocabularies have expired.

    Args:
        folder: As `ecdctr.etl.expiry` writes it.
        counts: How many ids of each vocabulary it holds.
        rows: Known rows of each vocabulary; later ids are out of vocabulary anyway.
        features: The sample contract.

    Raises:
        InputError: A file is missing or damaged, or the numbers differ.
    """

    def __init__(self, folder: Path, counts: Mapping[str, int], rows: Mapping[str, int], features: FeatureSet) -> None:
        self.features = features
        self._flags: dict[str, Tensor] = {}
        for name in features.vocabularies:
            if counts.get(name):
                ids = _ids(folder, name, counts[name])
                flags = torch.zeros(rows[name], dtype=torch.bool)
                flags[ids[ids < rows[name]]] = True
                self._flags[name] = flags

    def hide(self, batch: Batch) -> Batch:
        """The same rows with buckets in place of expired ids; historical vectors that are attached stay those of the ids."""
        features = self.features
        columns = [
            self._hidden(batch.ids[:, at], features.vocabulary_of[name]) for at, name in enumerate(features.id_fields)
        ]
        batch.ids = torch.stack(columns, 1)
        batch.sequences = {
            name: self._hidden(ids, features.vocabulary_of[name]) for name, ids in batch.sequences.items()
        }
        return batch

    def _hidden(self, ids: Tensor, vocabulary: str) -> Tensor:
        flags = self._flags.get(vocabulary)
        if flags is None:
            return ids
        gone = flags[ids.clamp(max=len(flags) - 1)] & (ids < len(flags))
        bucket = FIRST_BUCKET + (ids - FIRST_BUCKET) % self.features.oov_buckets[vocabulary]
        return torch.where(gone, bucket, ids)


def _ids(folder: Path, vocabulary: str, count: int) -> Tensor:
    hint = f"remove {folder} and train again"
    try:
        # Spark writes some characters of a name as %XX.
        files = [
            file for file in sorted(folder.glob("*/*.parquet")) if unquote(file.parent.name) == f"field={vocabulary}"
        ]
        parts = [pq.ParquetFile(file).read(columns=["id"]) for file in files]
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{folder} has a damaged file: {error}", hint=hint) from error
    found = sum(part.num_rows for part in parts)
    if found != count:
        raise InputError(f"{folder} holds {found:,} expired ids of {vocabulary}, expected {count:,}", hint=hint)
    return torch.tensor(pa.concat_tables(parts)["id"].to_numpy())
