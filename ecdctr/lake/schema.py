"""Every table of the warehouse: columns, types, nullability, comments, partition, constraints (docs/tables.md)."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """A column; `type` is a Spark SQL type."""

    name: str
    type: str
    comment: str
    nullable: bool = False


@dataclass(frozen=True)
class TableSpec:
    """A table.

    Attributes:
        name: Folder under the warehouse.
        comment: What one row is.
        columns: The fixed columns; impressions and samples have further ones by configuration.
        partition: Column that the files are divided by.
        checks: Delta CHECK constraints, by name: conditions that every row must meet.
    """

    name: str
    comment: str
    columns: tuple[Column, ...]
    partition: str | None = None
    checks: dict[str, str] = field(default_factory=dict)


DOMAINS = ("natural", "ad")

_EVENT_ID = Column("event_id", "string", "identity of the impression")
_EVENT_DATE = Column("event_date", "date", "day of the impression on the data set's clock")


CLICKED_AT = Column("clicked_at", "timestamp", "when it was clicked (UTC)", nullable=True)
"""Of impressions whose labels come from a log of clicks: nobody knows of a click before it."""


def _impressions(domain: str) -> TableSpec:
    return TableSpec(
        name=f"{domain}_impressions",
        comment=f"clean {domain} impressions: checked, labelled, each once",
        columns=(
            _EVENT_ID,
            Column("user_id", "string", "the user, as text"),
            Column("item_id", "string", "the item shown, as text"),
            Column("event_time", "timestamp", "when it was shown (UTC)"),
            _EVENT_DATE,
            Column("label", "int", "1 clicked, 0 not"),
        ),
        partition="event_date",
        checks={
            "label_is_binary": "label IN (0, 1)",
            "ids_are_not_empty": "event_id <> '' AND user_id <> '' AND item_id <> ''",
        },
    )


def _samples(domain: str) -> TableSpec:
    return TableSpec(
        name=f"{domain}_samples",
        comment=f"encoded {domain} impressions, ready to train on; each day in its order",
        columns=(
            _EVENT_ID,
            Column("user", "string", "the user, as text, for metrics per user"),
            _EVENT_DATE,
            Column("day", "int", "days from 1970-01-01 to event_date"),
            Column("label", "float", "1 clicked, 0 not"),
            Column("weight", "float", "weight of the row in the loss"),
        ),
        partition="event_date",
        checks={"label_is_binary": "label IN (0, 1)", "weight_is_positive": "weight > 0"},
    )


_TABLES = (
    *(_impressions(domain) for domain in DOMAINS),
    TableSpec(
        name="quarantine",
        comment="rows that broke the input contract or came too late, each once",
        columns=(
            Column("row_id", "string", "SHA-256 of domain, reason and row"),
            Column("domain", "string", "natural or ad"),
            Column("reason", "string", "the check that the row failed, or late"),
            Column("row", "string", "the row as JSON"),
            Column("event_date", "date", "day of the row, where its time could be read", nullable=True),
            Column("found_at", "timestamp", "when the row was put here (UTC)"),
        ),
    ),
    TableSpec(
        name="intake",
        comment="what each file of the logs holds, as the last preparation saw it",
        columns=(
            Column("domain", "string", "natural or ad"),
            Column("file", "string", "the file"),
            Column("stamp", "string", "its size and time, by which a changed file is known"),
            Column("reason", "string", "the check that these rows fail; null for good rows", nullable=True),
            Column("event_date", "date", "day of these rows, where their time can be read", nullable=True),
            Column("rows", "bigint", "how many rows"),
            Column("digest", "bigint", "sum over hashes of the rows, by which a changed day is known"),
            Column("clicks", "bigint", "how many of them are clicked"),
            Column("nulls", "map<string,bigint>", "missing values by column"),
        ),
    ),
    TableSpec(
        name="data_quality",
        comment="figures of each day to prepare, refused ones too, and how they compare with the days before",
        columns=(
            Column("domain", "string", "natural or ad"),
            Column("event_date", "date", "the day"),
            Column("check", "string", "volume, click_rate, null_rate or new_ids"),
            Column("subject", "string", "the column of a null rate, the field of new ids, else empty"),
            Column("value", "double", "the figure"),
            Column("expected", "double", "mean of the trailing days; null where they are too few", nullable=True),
            Column("days", "int", "how many trailing days there were"),
            Column("outcome", "string", "ok, no_history, or the policy that was applied"),
            Column("checked_at", "timestamp", "when it was checked (UTC)"),
        ),
        checks={"outcome_is_known": "outcome IN ('ok', 'no_history', 'warn', 'quarantine', 'fail')"},
    ),
    TableSpec(
        name="vocabulary",
        comment="tokens with an embedding of their own; within a generation, rows are only ever added",
        columns=(
            Column("field", "string", "the vocabulary, shared by all features that name it"),
            Column("token", "string", "the value as text"),
            Column("id", "bigint", "its id, never reused"),
            Column("first_seen", "date", "first day with the token that counted towards its admission"),
            Column("last_seen", "date", "last day with the token, as of its admission"),
            Column(
                "count",
                "bigint",
                "impressions with the token that counted, up to and including the day that admitted it",
            ),
            Column("admitted", "date", "day from which samples carry the id"),
        ),
        partition="field",
        checks={"id_belongs_to_a_token": "id >= 3", "seen_before_admitted": "first_seen <= admitted"},
    ),
    *(_samples(domain) for domain in DOMAINS),
    TableSpec(
        name="tpm_embeddings",
        comment="historical embeddings: one vector per user or item and snapshot",
        columns=(
            Column("entity", "string", "user or item"),
            Column("id", "bigint", "id in the entity's vocabulary"),
            Column("snapshot", "date", "first day that the snapshot has not seen"),
            Column("vector", "array<float>", "the embedding"),
            Column("model_version", "string", "the TPM version"),
        ),
        partition="snapshot",
        checks={"entity_is_known": "entity IN ('user', 'item')"},
    ),
    TableSpec(
        name="serving_embeddings",
        comment="pooled historical embeddings: one vector per user or item and serving version",
        columns=(
            Column("entity", "string", "user or item"),
            Column("id", "bigint", "id in the entity's vocabulary"),
            Column(
                "vector", "array<float>", "pooled over the snapshots; that of id 0 stands for every id without a row"
            ),
            Column("model_version", "string", "the A-CTR version"),
        ),
        partition="model_version",
        checks={"entity_is_known": "entity IN ('user', 'item')"},
    ),
    TableSpec(
        name="predictions",
        comment="scores of the ad model for rows it had not been trained on",
        columns=(
            _EVENT_ID,
            _EVENT_DATE,
            Column("user_id", "string", "the user, as text"),
            Column("label", "int", "1 clicked, 0 not"),
            Column("probability", "double", "predicted click probability"),
            Column("model_version", "string", "version that scored"),
            Column("arm", "string", "way of training, see `compare`"),
            Column("seed", "bigint", "seed of the run"),
        ),
        partition="event_date",
        checks={"label_is_binary": "label IN (0, 1)", "probability_is_one": "probability BETWEEN 0 AND 1"},
    ),
    TableSpec(
        name="ledger",
        comment="published versions and alias changes, in order; a version exists when it stands here",
        columns=(
            Column("seq", "bigint", "place in the order, from 1"),
            Column("kind", "string", "version or alias"),
            Column("version", "string", "the version's name"),
            Column("alias", "string", "the alias that now points to the version", nullable=True),
            Column("level", "string", "tpm, cpm or actr", nullable=True),
            Column("arm", "string", "way of training", nullable=True),
            Column("date", "date", "the logical date: first day not seen", nullable=True),
            Column("window_from", "date", "first day trained on", nullable=True),
            Column("window_until", "date", "first day after those trained on", nullable=True),
            Column("parents", "array<string>", "versions it was made from", nullable=True),
            Column("tables", "map<string,bigint>", "table versions it was trained on", nullable=True),
            Column("config_digest", "string", "SHA-256 of the configuration", nullable=True),
            Column("code_version", "string", "version of this package", nullable=True),
            Column("feature_fingerprint", "string", "SHA-256 of the sample contract", nullable=True),
            Column("seed", "bigint", "seed of the run", nullable=True),
            Column("ranks", "int", "training processes", nullable=True),
            Column("artifact", "string", "folder in the artifact store", nullable=True),
            Column("digest", "string", "SHA-256 of all parameters", nullable=True),
            Column("metrics_json", "string", "what the training recorded", nullable=True),
            Column("committed_at", "timestamp", "when it was published (UTC)"),
            Column("writer", "string", "random name of the commit, by which its writer knows it again"),
        ),
        checks={"kind_is_known": "kind IN ('version', 'alias')", "seq_starts_at_one": "seq >= 1"},
    ),
)

SCORES = TableSpec(
    name="scores",
    comment="click probabilities of rows of the ad log, as `ecdctr score` gives them",
    columns=(
        _EVENT_ID,
        _EVENT_DATE,
        Column("user_id", "string", "the user, as text"),
        Column("item_id", "string", "the item, as text"),
        Column("probability", "double", "predicted click probability"),
        Column("model_version", "string", "version that scored"),
    ),
    partition="event_date",
    checks={"probability_is_one": "probability BETWEEN 0 AND 1"},
)
"""What `ecdctr score` writes, wherever the caller wants it: no table of the warehouse."""

TABLES = {table.name: table for table in _TABLES}
"""All tables by name."""
