"""Rows of a log in the types of impressions, each with the first check that it fails."""

from functools import reduce
from operator import and_
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ecdctr.config.dataset import Columns, DatasetConfig
from ecdctr.etl import clock, contract
from ecdctr.etl.source import FILE, column, id_text
from ecdctr.exceptions import InputError
from ecdctr.features.encoding import SEPARATOR
from ecdctr.features.feature_set import log_columns
from ecdctr.lake.schema import TABLES

FIXED = {spec.name for spec in TABLES["natural_impressions"].columns}
"""Columns that all impressions have."""


def typed_rows(log: DataFrame, dataset: DatasetConfig, columns: Columns, domain: str, where: str) -> DataFrame:
    """One domain's log in the types of impressions, with the first check that each row fails."""
    offset = clock.offset_micros(dataset.day_boundary)
    checks: list[tuple[str, Any]] = []
    micros = clock.event_micros(log, columns.time, offset, f"{where}.columns.time")
    out = {
        "event_id": _event_id(log, columns, where),
        "user_id": id_text(log, columns.user, where),
        "item_id": id_text(log, columns.item, where),
        "_micros": micros,
        "label": F.lit(None).cast("int") if columns.label is None else _label(log, columns.label, where),
    }
    checks += [
        (f"time ({columns.time.column}) is missing or unreadable", F.col("_micros").isNull()),
        (f"user ({columns.user}) is missing", F.col("user_id").isNull()),
        (f"item ({columns.item}) is missing", F.col("item_id").isNull()),
        (f"event id ({', '.join(columns.identity())}) is missing", F.col("event_id").isNull()),
    ]
    if columns.label is not None:
        checks.append((f"label ({columns.label}) is outside {{0, 1}}", F.col("label").isNull()))
    unread = []
    for name, kind in log_columns(dataset.features).items():
        if name in FIXED:
            _refuse_fixed_name(name, columns, where)
            continue
        out[name] = id_text(log, name, where) if kind == "string" else _number(log, name, where)
        if kind == "double" and isinstance(log.schema[name].dataType, T.StringType):
            unread.append((f"{name} is no number", (F.trim(column(name)) != "") & out[name].isNull()))
    flags = [condition.alias(f"_unread_{place}") for place, (_, condition) in enumerate(unread)]
    keys = F.concat_ws(", ", *(_shown(name, columns.user) for name in columns.identity()))
    typed = log.select(
        *(value.alias(name) for name, value in out.items()),
        *flags,
        keys.alias("_keys"),
        F.to_json(F.struct(*(column(name) for name in log.columns if name != FILE))).alias("_row"),
        FILE,
    )
    checks += [(reason, F.col(f"_unread_{place}")) for place, (reason, _) in enumerate(unread)]
    checks += contract.checks(dataset, domain)
    reason = F.coalesce(*(F.when(condition, F.lit(text)) for text, condition in checks))
    extra = [name for name in out if name not in ("event_id", "user_id", "item_id", "_micros", "label")]
    return typed.select(
        "event_id",
        "user_id",
        "item_id",
        F.timestamp_micros("_micros").alias("event_time"),
        F.date_from_unix_date(clock.day_number(F.col("_micros"), offset)).alias("event_date"),
        "label",
        *(column(name) for name in extra),
        reason.alias("_reason"),
        "_keys",
        "_row",
        FILE,
    )


def _shown(name: str, user: str) -> Any:
    value = column(name).cast("string")
    if name == user:
        # A message goes to logs and mails, where users have no business to be.
        value = F.concat(F.lit("sha256:"), F.substring(F.sha2(value, 256), 1, 12))
    return F.concat(F.lit(f"{name}="), F.coalesce(value, F.lit("null")))


def _number(log: DataFrame, name: str, where: str) -> Any:
    kind = log.schema[name].dataType
    if not isinstance(kind, T.NumericType | T.StringType | T.BooleanType):
        raise InputError(
            f"{where}: column {name!r} is {kind.simpleString()}, expected a number", hint="choose another column"
        )
    value = column(name)
    if isinstance(kind, T.StringType):
        return F.trim(value).try_cast("double")
    return value.cast("int").cast("double") if isinstance(kind, T.BooleanType) else value.cast("double")


def _label(log: DataFrame, name: str, where: str) -> Any:
    number = _number(log, name, where)
    return F.when(number.isin(0.0, 1.0), number.cast("int"))


def _event_id(log: DataFrame, columns: Columns, where: str) -> Any:
    """One column as it is; several as the first 128 bits of SHA-256 over their texts, null where one that is named is missing."""
    if len(columns.event_id) == 1:
        return id_text(log, columns.event_id[0], where)
    parts = [F.coalesce(column(name).cast("string"), F.lit("")) for name in columns.identity()]
    digest = F.substring(F.sha2(F.concat_ws(SEPARATOR, *parts), 256), 1, 32)
    if not columns.event_id:
        # User, item and time have checks of their own.
        return digest
    return F.when(reduce(and_, [part != "" for part in parts]), digest)


def _refuse_fixed_name(name: str, columns: Columns, where: str) -> None:
    """A feature may read `user_id` where that is the user; another column of such a name would be mistaken for it."""
    if {"user_id": columns.user, "item_id": columns.item}.get(name) != name:
        raise InputError(
            f"{where}: a feature reads the log's column {name!r}, a name that impressions use otherwise",
            hint="rename the column in the log",
        )
