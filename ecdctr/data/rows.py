"""Rows of samples on their way into a batch: Arrow → arrays → tensors, whoever has read or encoded them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from ecdctr.data.batch import Batch
from ecdctr.data.shard_plan import FileRows
from ecdctr.exceptions import InputError
from ecdctr.features import FeatureSet

Array = npt.NDArray[Any]


@dataclass
class Rows:
    """Arrays of some rows; the fields are those of `Batch`."""

    ids: Array
    numbers: Array
    sequences: dict[str, Array]
    label: Array
    weight: Array
    day: Array
    domain: Array
    event_id: Array | None
    user: Array | None

    def __len__(self) -> int:
        return len(self.label)

    def slice(self, start: int, stop: int) -> "Rows":
        """Rows `[start, stop)`, without a copy."""
        part = slice(start, stop)
        return Rows(
            self.ids[part],
            self.numbers[part],
            {name: array[part] for name, array in self.sequences.items()},
            self.label[part],
            self.weight[part],
            self.day[part],
            self.domain[part],
            None if self.event_id is None else self.event_id[part],
            None if self.user is None else self.user[part],
        )


def columns_of(features: FeatureSet, names: bool) -> list[str]:
    """Columns of a samples table that make a batch."""
    return [*features.columns, "label", "weight", "day", *(["event_id", "user"] if names else [])]


def to_rows(table: pa.Table, file: FileRows, features: FeatureSet, names: bool, order: Array | None) -> Rows:
    """Arrays of a buffer; ids and sequences in 32 bits where they fit.

    Args:
        table: The buffer.
        file: Its file, whose rows are all of one domain.
        features: Order of ids and numbers; lengths of sequences.
        names: Whether event and user ids are in the table.
        order: Which row comes at which place; None keeps the table's order.

    Raises:
        InputError: A null, an id that is no integer, or a sequence of another length.
    """
    path = file.path

    def column(name: str, dtype: type[np.generic]) -> Array:
        if name in file.constants:
            return np.full(table.num_rows, file.constants[name], dtype)
        array = _whole(table, name, path)
        if dtype is np.int64 and not pa.types.is_integer(array.type):
            raise InputError(f"{path}: column {name} is {array.type}: expected an integer")
        values: Array = array.to_numpy(zero_copy_only=False)
        return values.astype(dtype, copy=False)

    def ordered(values: Array) -> Array:
        return values if order is None else values[order]

    rows = table.num_rows
    columns = [column(name, np.int64) for name in features.id_fields]
    ids = np.empty((rows, len(columns)), np.result_type(*map(_narrow, columns), np.int32))
    for place, values in enumerate(columns):
        ids[:, place] = ordered(values)
    numbers = np.empty((rows, len(features.number_fields)), np.float32)
    for place, name in enumerate(features.number_fields):
        numbers[:, place] = ordered(column(name, np.float32))
    return Rows(
        ids=ids,
        numbers=numbers,
        sequences={
            name: ordered(_sequence(table, name, length, path)) for name, length in features.sequence_fields.items()
        },
        label=ordered(column("label", np.float32)),
        weight=ordered(column("weight", np.float32)),
        day=ordered(column("day", np.int64)),
        domain=np.full(rows, file.domain, np.int64),
        event_id=ordered(column("event_id", np.object_)) if names else None,
        user=ordered(column("user", np.object_)) if names else None,
    )


def _whole(table: pa.Table, name: str, path: str) -> Any:
    array = table.column(name).combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    if array.null_count:
        raise InputError(
            f"{path}: column {name} has {array.null_count} nulls: samples have none", hint="write that day again"
        )
    return array


def _sequence(table: pa.Table, name: str, length: int, path: str) -> Array:
    array = _whole(table, name, path)
    values = array.flatten()
    lengths = np.diff(array.offsets.to_numpy())
    if values.null_count or not pa.types.is_integer(values.type) or (lengths != length).any():
        raise InputError(
            f"{path}: sequence {name} is {array.type} with lengths {lengths.min(initial=length)} to "
            f"{lengths.max(initial=length)} and {values.null_count} nulls: expected {length} integers in every row",
            hint="write the samples again with this configuration",
        )
    matrix: Array = values.to_numpy(zero_copy_only=False).reshape(-1, length)
    return matrix.astype(_narrow(matrix), copy=False)


def _narrow(values: Array) -> np.dtype[Any]:
    """The narrower of 32 and 64 bits that holds all of some integers."""
    bounds = np.iinfo(np.int32)
    fits = np.can_cast(values.dtype, np.int32) or (
        values.min(initial=0) >= bounds.min and values.max(initial=0) <= bounds.max
    )
    return np.dtype(np.int32 if fits else np.int64)


def to_batch(parts: list[Rows], features: FeatureSet, names: bool) -> Batch:
    """Rows of several buffers as one batch, its sequences cut where the longest one ends; of no buffer an empty batch.

    Args:
        parts: The rows; nothing of them is shared with the batch.
        features: The sample contract.
        names: Whether they have event and user ids.
    """
    if not parts:
        parts = [_no_rows(features, names)]

    def joined(arrays: list[Array], dtype: type[np.generic] | None = None) -> torch.Tensor:
        # Always a copy: a batch must not keep its buffer alive, nor change it.
        return torch.from_numpy(np.concatenate(arrays, dtype=dtype))

    def listed(arrays: list[Array | None]) -> list[str] | None:
        return [name for array in arrays if array is not None for name in array.tolist()] if names else None

    return Batch(
        ids=joined([part.ids for part in parts], np.int64),
        numbers=joined([part.numbers for part in parts]),
        sequences=_sequences([part.sequences for part in parts], features),
        label=joined([part.label for part in parts]),
        weight=joined([part.weight for part in parts]),
        day=joined([part.day for part in parts]),
        domain=joined([part.domain for part in parts]),
        event_id=listed([part.event_id for part in parts]),
        user=listed([part.user for part in parts]),
    )


def _sequences(parts: Sequence[Mapping[str, Array]], features: FeatureSet) -> dict[str, torch.Tensor]:
    """Sequences `(B, T)`, each list with its attributes cut where the longest of them ends in these rows."""
    cut: dict[str, torch.Tensor] = {}
    for name in features.list_fields:
        columns = [name, *features.attributes(name)]
        length = max(_length(part[column]) for part in parts for column in columns)
        for column in columns:
            # A copy: a batch must not keep its buffer alive.
            cut[column] = torch.from_numpy(np.concatenate([part[column][:, :length] for part in parts], dtype=np.int64))
    return {name: cut[name] for name in features.sequence_fields}


def _length(sequence: Array) -> int:
    """Places `(B, T)` up to the last one that is no padding in some row; at least one."""
    rows, length = sequence.shape
    # From the end, since one long row is enough.
    while length > 1 and rows and not sequence[:, length - 1].any():
        length -= 1
    return length if rows else 1


def _no_rows(features: FeatureSet, names: bool) -> Rows:
    empty = np.empty(0, np.object_) if names else None
    return Rows(
        ids=np.empty((0, len(features.id_fields)), np.int64),
        numbers=np.empty((0, len(features.number_fields)), np.float32),
        sequences={name: np.empty((0, length), np.int64) for name, length in features.sequence_fields.items()},
        label=np.empty(0, np.float32),
        weight=np.empty(0, np.float32),
        day=np.empty(0, np.int64),
        domain=np.empty(0, np.int64),
        event_id=empty,
        user=empty,
    )
