"""One domain's log → clean impressions: typed, checked, labelled, each once."""

import datetime as dt
import logging
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ecdctr.config.dataset import Columns, DatasetConfig
from ecdctr.etl import clock
from ecdctr.etl.source import KEYS_SHOWN, column, open_source, reading
from ecdctr.etl.tokens import SEPARATOR
from ecdctr.exceptions import InputError
from ecdctr.features.feature_set import log_columns
from ecdctr.lake.schema import TABLES, Column

logger = logging.getLogger(__name__)

SOURCE_KEYS = {"natural": "natural", "ad": "ads"}
ROWS_PER_FILE = 2_000_000
_FIXED = {spec.name for spec in TABLES["natural_impressions"].columns}


@dataclass
class Ingest:
    """One domain's log, typed and looked through; nothing is written yet.

    Attributes:
        domain: natural or ad.
        frame: Impressions with `_reason` (null: good), `_keys` and `_row`.
        rows: Good rows of each day.
        bad: Rows by reason and day; the day is None where the time cannot be read.
    """

    domain: str
    frame: DataFrame
    rows: dict[dt.date, int] = field(default_factory=dict)
    bad: dict[tuple[str, dt.date | None], int] = field(default_factory=dict)

    def bad_in(self, since: dt.date | None, until: dt.date) -> int:
        """Bad rows of the days `[since, until)`, and those without a day."""
        return sum(count for (_, day), count in self.bad.items() if _within(day, since, until))

    def largest_day(self) -> int:
        """Rows of the day with the most."""
        return max(self.rows.values(), default=0)


def extra_columns(dataset: DatasetConfig) -> list[Column]:
    """The columns of impressions that features are made from."""
    types = log_columns(dataset)
    return [
        Column(name, kind, f"column {name} of the log", nullable=True)
        for name, kind in types.items()
        if name not in _FIXED
    ]


def look_through(spark: SparkSession, dataset: DatasetConfig, domain: str) -> Ingest:
    """Type the log of a domain and count good and bad rows by day, in one pass over the columns that decide it.

    Raises:
        InputError: The log does not fit the mapping, or has no row.
    """
    key = SOURCE_KEYS[domain]
    source = getattr(dataset, key)
    log = open_source(spark, dataset, key)
    found = Ingest(domain, _typed(log, dataset, dataset.columns_of(source), f"dataset.{key}"))
    with reading(f"dataset.{key}", source.path):
        counts = found.frame.groupBy("_reason", "event_date").count().collect()
    for row in counts:
        if row["_reason"] is None:
            found.rows[row["event_date"]] = row["count"]
        else:
            found.bad[row["_reason"], row["event_date"]] = row["count"]
    if not counts:
        condition = f" where {source.where}" if source.where else ""
        raise InputError(f"dataset.{key}: {source.path}{condition} has no rows", hint="check path and condition")
    return found


def refuse_bad_rows(found: Ingest, since: dt.date | None, until: dt.date) -> None:
    """Fail for bad rows of the days `[since, until)`, naming the checks, the counts and some rows.

    Raises:
        InputError: There is one.
    """
    if not found.bad_in(since, until):
        return
    reasons: dict[str, int] = {}
    for (reason, day), count in found.bad.items():
        if _within(day, since, until):
            reasons[reason] = reasons.get(reason, 0) + count
    rows = _bad_rows(found, since, until).select("_reason", "_keys").limit(KEYS_SHOWN).collect()
    raise InputError(
        f"dataset.{SOURCE_KEYS[found.domain]}: "
        + "; ".join(f"{count:,} rows: {reason}" for reason, count in sorted(reasons.items()))
        + ". For example "
        + "; ".join(f"{row['_keys']} ({row['_reason']})" for row in rows),
        hint="mend the log, or set dataset.drop_bad_rows: true to put such rows aside; nothing was written",
    )


def quarantined(found: Ingest, since: dt.date | None, until: dt.date) -> DataFrame:
    """Bad rows of the days as rows of the `quarantine` table, each once."""
    identity = F.concat_ws(SEPARATOR, F.lit(found.domain), "_reason", "_row")
    return (
        _bad_rows(found, since, until)
        .select(
            F.sha2(identity, 256).alias("row_id"),
            F.lit(found.domain).alias("domain"),
            F.col("_reason").alias("reason"),
            F.col("_row").alias("row"),
            "event_date",
            F.current_timestamp().alias("found_at"),
        )
        .dropDuplicates(["row_id"])
    )


def impressions(found: Ingest, since: dt.date, until: dt.date, earlier: DataFrame | None) -> DataFrame:
    """Good rows of the days `[since, until)`, each event once, laid out by day.

    Of rows with one event id the earliest is kept; at the same moment the clicked one; then the smallest by the
    values of the other columns in their order. What a day keeps never depends on a later one.

    Args:
        found: The log.
        since: First day.
        until: The day after the last.
        earlier: Impressions of earlier days whose events must not come again; None where that is impossible.
    """
    good = found.frame.where(
        F.col("_reason").isNull() & F.col("event_date").between(since, until - dt.timedelta(days=1))
    )
    good = good.drop("_reason", "_keys", "_row")
    others = [name for name in good.columns if name not in ("event_id", "event_time", "label", "event_date")]
    order = [F.col("event_time"), F.col("label").desc(), *(column(name) for name in others)]
    place = F.row_number().over(Window.partitionBy("event_id").orderBy(*order))
    once = good.withColumn("_place", place).where("_place = 1").drop("_place")
    if earlier is not None:
        once = once.join(earlier.select("event_id"), "event_id", "left_anti")
    slot = F.pmod(F.xxhash64("event_id"), F.lit(1 + found.largest_day() // ROWS_PER_FILE))
    return once.repartition("event_date", slot).sortWithinPartitions("event_date")


def _within(day: dt.date | None, since: dt.date | None, until: dt.date) -> bool:
    return day is None or ((since is None or day >= since) and day < until)


def _bad_rows(found: Ingest, since: dt.date | None, until: dt.date) -> DataFrame:
    day = F.col("event_date")
    inside = (day < F.lit(until)) & (F.lit(True) if since is None else day >= F.lit(since))
    return found.frame.where(F.col("_reason").isNotNull() & (day.isNull() | inside))


def _typed(log: DataFrame, dataset: DatasetConfig, columns: Columns, where: str) -> DataFrame:
    """The log in the types of impressions, with the first check that each row fails."""
    offset = clock.offset_micros(dataset.day_boundary)
    checks: list[tuple[str, Any]] = []
    micros = clock.event_micros(log, columns.time, offset, f"{where}.columns.time")
    out = {
        "event_id": _event_id(log, columns, where),
        "user_id": _text(log, columns.user, where),
        "item_id": _text(log, columns.item, where),
        "_micros": micros,
        "label": _label(log, columns.label, where),
    }
    checks += [
        (f"time ({columns.time.column}) is missing or unreadable", F.col("_micros").isNull()),
        (f"user ({columns.user}) is missing", F.col("user_id").isNull()),
        (f"item ({columns.item}) is missing", F.col("item_id").isNull()),
        (f"event id ({', '.join(columns.identity())}) is missing", F.col("event_id").isNull()),
        (f"label ({columns.label}) is outside {{0, 1}}", F.col("label").isNull()),
    ]
    unread = []
    for name, kind in log_columns(dataset).items():
        if name in _FIXED:
            _refuse_fixed_name(name, columns, where)
            continue
        out[name] = _text(log, name, where) if kind == "string" else _number(log, name, where)
        if kind == "double" and isinstance(log.schema[name].dataType, T.StringType):
            unread.append((f"{name} is no number", (F.trim(column(name)) != "") & out[name].isNull()))
    flags = [condition.alias(f"_unread_{place}") for place, (_, condition) in enumerate(unread)]
    keys = F.concat_ws(", ", *(_shown(name) for name in columns.identity()))
    typed = log.select(
        *(value.alias(name) for name, value in out.items()),
        *flags,
        keys.alias("_keys"),
        F.to_json(F.struct(*(column(name) for name in log.columns))).alias("_row"),
    )
    checks += [(reason, F.col(f"_unread_{place}")) for place, (reason, _) in enumerate(unread)]
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
    )


def _shown(name: str) -> Any:
    return F.concat(F.lit(f"{name}="), F.coalesce(column(name).cast("string"), F.lit("null")))


def _text(log: DataFrame, name: str, where: str) -> Any:
    """An id as text, exactly; null where empty.

    Raises:
        InputError: The type is not one that ids keep their value in.
    """
    kind = log.schema[name].dataType
    whole = isinstance(kind, T.IntegralType) or (isinstance(kind, T.DecimalType) and kind.scale == 0)
    if not (whole or isinstance(kind, T.StringType | T.BooleanType | T.DateType)):
        raise InputError(
            f"{where}: column {name!r} is {kind.simpleString()}, expected whole numbers or text for ids",
            hint="ids lose digits as floating-point numbers; write the column as bigint or string, or use it as a number",
        )
    text = column(name).cast("string")
    return F.when(text != "", text)


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
    """One column as it is; several as the first 128 bits of SHA-256 over their texts."""
    if len(columns.event_id) == 1:
        return _text(log, columns.event_id[0], where)
    parts = [F.coalesce(column(name).cast("string"), F.lit("")) for name in columns.identity()]
    return F.substring(F.sha2(F.concat_ws(SEPARATOR, *parts), 256), 1, 32)


def _refuse_fixed_name(name: str, columns: Columns, where: str) -> None:
    """A feature may read `user_id` where that is the user; another column of such a name would be mistaken for it."""
    if {"user_id": columns.user, "item_id": columns.item}.get(name) != name:
        raise InputError(
            f"{where}: a feature reads the log's column {name!r}, a name that impressions use otherwise",
            hint="rename the column in the log",
        )
