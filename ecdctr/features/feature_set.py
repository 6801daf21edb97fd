"""What the columns of a sample are, in order, derived from the configuration alone."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace

from ecdctr.exceptions import ConfigError
from ecdctr.features.columns import ITEM, USER, SampleColumn, TokenSource
from ecdctr.features.encoding import FIRST_BUCKET
from ecdctr.features.feature import Feature

SOURCE = "source."
"""Before the vocabularies of a frozen source network, which knows other rows than the model beside it."""


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
        attention: For each click sequence and attribute of one, the id field of the impression that it is compared
            with. A sequence that is neither here nor in `aligned` is averaged.
        aligned: For each attribute of a click sequence, the sequence whose places it describes.
    """

    id_fields: tuple[str, ...]
    number_fields: tuple[str, ...]
    sequence_fields: dict[str, int]
    vocabulary_of: dict[str, str]
    fixed_rows: dict[str, int]
    oov_buckets: dict[str, int]
    attention: dict[str, str]
    aligned: dict[str, str] = field(default_factory=dict)
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

    @property
    def list_fields(self) -> list[str]:
        """Sequences that become a field vector each: all but the attributes of others."""
        return [name for name in self.sequence_fields if name not in self.aligned]

    def attributes(self, sequence: str) -> list[str]:
        """The sequences that describe another one's places."""
        return [name for name, of in self.aligned.items() if of == sequence]

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

    def without(self, sequences: Collection[str]) -> "FeatureSet":
        """The same contract less some sequences, their attributes and times."""
        gone = {name for name in self.sequence_fields if name in sequences or self.aligned.get(name) in sequences}
        kept = replace(
            self,
            sequence_fields={name: length for name, length in self.sequence_fields.items() if name not in gone},
            vocabulary_of={name: own for name, own in self.vocabulary_of.items() if name not in gone},
            attention={name: like for name, like in self.attention.items() if name not in gone},
            aligned={name: of for name, of in self.aligned.items() if name not in gone},
        )
        used = set(kept.vocabularies)
        return replace(
            kept,
            fixed_rows={name: rows for name, rows in self.fixed_rows.items() if name in used},
            oov_buckets={name: buckets for name, buckets in self.oov_buckets.items() if name in used},
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


def feature_set(features: Sequence[Feature], oov_buckets: dict[str, int]) -> FeatureSet:
    """Derive the sample's contract from the features of a data set.

    Args:
        features: Those of the configuration, in order.
        oov_buckets: Buckets by vocabulary name; vocabularies that are not named have one.

    Raises:
        ConfigError: A vocabulary shared by a field with a fixed and one with an open set of values.
    """
    given = [column for spec in features for column in spec.columns()]
    columns = [SampleColumn(name, "id", vocabulary=name) for name in (USER, ITEM)] + given
    own = {column.name: column.vocabulary for column in columns}
    vocabulary_of = {
        column.name: column.vocabulary or own[column.like or ""] or "" for column in columns if column.shape != "number"
    }
    # Fixed values are ids 2 … 1 + size: their token is the value itself, so no bucket stands before them.
    fixed = {vocabulary_of[c.name]: FIRST_BUCKET + c.values for c in columns if c.values is not None}
    clash = [c.name for c in columns if c.values is None and vocabulary_of.get(c.name) in fixed]
    if clash:
        raise ConfigError(
            f"features {clash} share a vocabulary with a field of fixed values", hint="give them another vocabulary"
        )
    lists = [column for column in columns if column.shape == "list"]
    return FeatureSet(
        id_fields=tuple(column.name for column in columns if column.shape == "id"),
        number_fields=tuple(column.name for column in columns if column.shape == "number"),
        sequence_fields={column.name: column.length for column in lists},
        vocabulary_of=vocabulary_of,
        fixed_rows=fixed,
        oov_buckets={name: oov_buckets.get(name, 1) for name in vocabulary_of.values()},
        attention={column.name: column.like for column in lists if column.like is not None},
        aligned={column.name: column.aligned for column in lists if column.aligned is not None},
    )


def token_sources(features: Sequence[Feature]) -> dict[str, TokenSource]:
    """For each field with an open vocabulary, where in the clean impressions its tokens come from."""
    sources = {name: TokenSource(name, (name,)) for name in (USER, ITEM)}
    for spec in features:
        sources |= spec.tokens()
    return sources


def log_columns(features: Sequence[Feature]) -> dict[str, str]:
    """Columns of the log that features need, with the Spark type each is kept in."""
    columns: dict[str, str] = {}
    for spec in features:
        for name, kind in spec.log_columns().items():
            # A number is a number wherever any feature reads it as one.
            columns[name] = "double" if "double" in (kind, columns.get(name)) else kind
    return columns


def check_features(features: Sequence[Feature]) -> None:
    """Refuse features that cannot stand beside one another.

    Raises:
        ValueError: A column given twice, or a feature that refers to one that does not suit it.
    """
    names = [column.name for spec in features for column in spec.columns()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"feature names given twice: {', '.join(twice)}")
    by_name = {spec.name: spec for spec in features}
    for spec in features:
        spec.check_beside(by_name)
