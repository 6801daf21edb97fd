"""What the columns of a sample are, in order, derived from the configuration alone."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from ecdctr.config.dataset import DatasetConfig
from ecdctr.config.features import BucketFeature, CrossFeature, IdFeature, NumberFeature, SequenceFeature, TimeFeature
from ecdctr.exceptions import ConfigError

USER = "user_id"
ITEM = "item_id"
SOURCE = "source."
"""Before the vocabularies of a frozen source network, which knows other rows than the model beside it."""
FIXED_SIZES = {"hour": 24, "weekday": 7}


@dataclass(frozen=True)
class FeatureSet:
    """Fields of a sample and the vocabularies behind them.

    Attributes:
        id_fields: Names of the `bigint` columns; user and item come first. Column order of `Batch.ids`.
        number_fields: Names of the `float` columns; column order of `Batch.numbers`.
        sequence_fields: Name and length of each `array<bigint>` column.
        vocabulary_of: Vocabulary of each id field and sequence.
        fixed_rows: Rows of vocabularies that the configuration fixes (buckets, hours), by vocabulary.
        oov_buckets: Out-of-vocabulary buckets of each vocabulary.
        attention: For each sequence, the id field that attends to it.
    """

    id_fields: tuple[str, ...]
    number_fields: tuple[str, ...]
    sequence_fields: dict[str, int]
    vocabulary_of: dict[str, str]
    fixed_rows: dict[str, int]
    oov_buckets: dict[str, int]
    attention: dict[str, str]
    user_field: str = USER
    item_field: str = ITEM

    @property
    def vocabularies(self) -> tuple[str, ...]:
        """Names of all vocabularies, in order of first use."""
        return tuple(dict.fromkeys(self.vocabulary_of[name] for name in (*self.id_fields, *self.sequence_fields)))

    @property
    def columns(self) -> list[str]:
        """Encoded columns that the network reads."""
        return [*self.id_fields, *self.number_fields, *self.sequence_fields]

    def only(self, id_fields: list[str]) -> "FeatureSet":
        """The same contract cut down to some id fields, without numbers and sequences."""
        vocabulary_of = {name: self.vocabulary_of[name] for name in id_fields}
        used = set(vocabulary_of.values())
        return FeatureSet(
            id_fields=tuple(id_fields),
            number_fields=(),
            sequence_fields={},
            vocabulary_of=vocabulary_of,
            fixed_rows={name: rows for name, rows in self.fixed_rows.items() if name in used},
            oov_buckets={name: buckets for name, buckets in self.oov_buckets.items() if name in used},
            attention={},
        )

    def of_source(self) -> "FeatureSet":
        """The same contract with vocabularies of a source network's own: it keeps the tables that it was trained with."""
        return replace(
            self,
            vocabulary_of={field: SOURCE + name for field, name in self.vocabulary_of.items()},
            fixed_rows={SOURCE + name: rows for name, rows in self.fixed_rows.items()},
            oov_buckets={SOURCE + name: buckets for name, buckets in self.oov_buckets.items()},
        )

    def fingerprint(self) -> str:
        """SHA-256 of the contract: samples and models with the same one fit together."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def feature_set(dataset: DatasetConfig, oov_buckets: dict[str, int]) -> FeatureSet:
    """Derive the sample's contract from the features of a data set.

    Args:
        dataset: The data set's configuration.
        oov_buckets: Buckets by vocabulary name; vocabularies that are not named have one.

    Raises:
        ConfigError: A vocabulary shared by a field with a fixed and one with an open set of values.
    """
    ids, numbers = [USER, ITEM], []
    vocabulary_of = {USER: USER, ITEM: ITEM}
    sequences: dict[str, int] = {}
    fixed: dict[str, int] = {}
    for spec in dataset.features:
        if isinstance(spec, NumberFeature):
            numbers.append(spec.name)
            continue
        if isinstance(spec, SequenceFeature):
            sequences[spec.name] = spec.length
            vocabulary_of[spec.name] = ITEM
            continue
        ids.append(spec.name)
        vocabulary_of[spec.name] = (spec.vocabulary or spec.name) if isinstance(spec, IdFeature) else spec.name
        if isinstance(spec, BucketFeature):
            fixed[spec.name] = len(spec.boundaries) + 1
        elif isinstance(spec, TimeFeature):
            fixed[spec.name] = FIXED_SIZES[spec.part]
    clash = [name for name, vocabulary in vocabulary_of.items() if vocabulary in fixed and name != vocabulary]
    if clash:
        raise ConfigError(
            f"features {clash} share a vocabulary with a field of fixed values", hint="give them another vocabulary"
        )
    buckets = {name: oov_buckets.get(name, 1) for name in vocabulary_of.values()}
    return FeatureSet(
        id_fields=tuple(ids),
        number_fields=tuple(numbers),
        sequence_fields=sequences,
        vocabulary_of=vocabulary_of,
        # Fixed values are ids 2 … 1 + size: their token is the value itself, so no bucket stands before them.
        fixed_rows={name: 2 + size for name, size in fixed.items()},
        oov_buckets=buckets,
        attention=dict.fromkeys(sequences, ITEM),
    )


def token_sources(dataset: DatasetConfig) -> dict[str, tuple[str, list[str]]]:
    """For each field with an open vocabulary: the vocabulary and the log columns whose text makes its token.

    The columns are those of the clean impressions: `user_id`, `item_id`, and one column per feature source.
    """
    sources: dict[str, tuple[str, list[str]]] = {USER: (USER, [USER]), ITEM: (ITEM, [ITEM])}
    for spec in dataset.features:
        if isinstance(spec, IdFeature):
            sources[spec.name] = (spec.vocabulary or spec.name, [spec.source or spec.name])
        elif isinstance(spec, CrossFeature):
            sources[spec.name] = (spec.name, list(spec.sources))
    return sources


def log_columns(dataset: DatasetConfig) -> dict[str, str]:
    """Columns of the log that features need, with the Spark type each is kept in."""
    columns: dict[str, str] = {}
    for spec in dataset.features:
        if isinstance(spec, IdFeature):
            columns.setdefault(spec.source or spec.name, "string")
        elif isinstance(spec, CrossFeature):
            for name in spec.sources:
                columns.setdefault(name, "string")
        elif isinstance(spec, NumberFeature | BucketFeature):
            columns[spec.source or spec.name] = "double"
    return columns
