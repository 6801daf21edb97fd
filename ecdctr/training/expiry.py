"""Ids whose tokens have expired are read as their buckets, in old samples and old sequences too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file
from torch import Tensor

from ecdctr.artifacts.tensor_files import write_tensors
from ecdctr.data.batch import Batch
from ecdctr.exceptions import InputError
from ecdctr.features import FeatureSet
from ecdctr.features.encoding import FIRST_BUCKET
from ecdctr.features.feature_set import SOURCE
from ecdctr.nn.embedding import EmbeddingTables

FILE = "expired.safetensors"


class Expired:
    """Which ids of which vocabularies have expired.

    Args:
        flags: By vocabulary, `(R,)` of its known rows; one that has none may be left out.
        features: The sample contract.
    """

    def __init__(self, flags: Mapping[str, Tensor], features: FeatureSet) -> None:
        self.features, self._flags = features, dict(flags)

    @classmethod
    def listed(cls, folder: Path, counts: Mapping[str, int], rows: Mapping[str, int], features: FeatureSet) -> Self:
        """Those of a list that was written for a level.

        Args:
            folder: As `ecdctr.etl.expiry` writes it.
            counts: How many ids of each vocabulary it holds.
            rows: Known rows of each vocabulary; later ids are out of vocabulary anyway.
            features: The sample contract.

        Raises:
            InputError: A file is missing or damaged, or the numbers differ.
        """
        found: dict[str, Tensor] = {}
        for name in features.vocabularies:
            if counts.get(name):
                ids = _ids(folder, name, counts[name])
                found[name] = torch.zeros(rows[name], dtype=torch.bool)
                found[name][ids[ids < rows[name]]] = True
        return cls(found, features)

    @classmethod
    def of_version(cls, version: Path, features: FeatureSet) -> Self:
        """Those that a published version was trained without."""
        return cls(load_file(version / FILE) if (version / FILE).exists() else {}, features)

    def write(self, version: Path) -> None:
        """Put them beside the parameters of a version: the list that was made for the level does not last."""
        write_tensors(version / FILE, self._flags)

    def read_as_buckets(self, tables: EmbeddingTables) -> None:
        """Give expired rows of tables what their buckets have, so that an id need not be hidden to be read so."""
        for name, flags in self._flags.items():
            ids = flags.nonzero().squeeze(1)
            for own in {name, SOURCE + name} & tables.rows.keys():
                table = tables.table(own)
                there = ids[ids < len(table)]
                table[there] = table[self._bucket(there, name)]

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
        return torch.where(gone, self._bucket(ids, vocabulary), ids)

    def _bucket(self, ids: Tensor, vocabulary: str) -> Tensor:
        return FIRST_BUCKET + (ids - FIRST_BUCKET) % self.features.oov_buckets[vocabulary]


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
