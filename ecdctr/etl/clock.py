"""Event times as microseconds, and days on the data set's clock; independent of any session's time zone."""

import datetime as dt
import re
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ecdctr.config.dataset import TimeColumn
from ecdctr.etl.source import column
from ecdctr.exceptions import InputError

SECOND = 1_000_000
DAY = 86_400 * SECOND
EPOCH = dt.date(1970, 1, 1)
END = (dt.date(2100, 1, 1) - EPOCH).days * DAY
"""Times from 1970 to 2099 are accepted; others come from a wrong unit."""
_FACTORS = {"s": SECOND, "ms": 1000, "us": 1}
_WHOLE = T.ByteType | T.ShortType | T.IntegerType | T.LongType


def offset_micros(boundary: str) -> int:
    """Offset of a clock such as ``"+08:00"`` from UTC, in microseconds."""
    found = re.fullmatch(r"([+-])(\d\d):(\d\d)", boundary)
    assert found is not None
    minutes = int(found[2]) * 60 + int(found[3])
    return (minutes if found[1] == "+" else -minutes) * 60 * SECOND


def event_micros(frame: DataFrame, time: TimeColumn, offset: int, where: str) -> Any:
    """Expression of the event time: microseconds since 1970-01-01 UTC; null where it cannot be read.

    Args:
        frame: The log.
        time: Which column, and what its values mean.
        offset: Offset of the data set's clock, on which dates and day numbers are days.
        where: Key of the configuration, for errors.

    Raises:
        InputError: A column whose type cannot carry such a time.
    """
    value, kind = column(time.column), frame.schema[time.column].dataType
    if time.unit in _FACTORS:
        micros = _scaled(value, kind, _FACTORS[time.unit])
    elif time.unit == "day":
        assert time.origin is not None
        number = value.try_cast("bigint") if isinstance(kind, _WHOLE | T.StringType | T.DecimalType) else None
        micros = None if number is None else _midnight(F.try_add(number, F.lit((time.origin - EPOCH).days)), offset)
    elif time.unit == "date":
        micros = _midnight(_date(value, kind, time.format), offset)
    else:
        micros = _timestamp(value, kind, time.format)
    if micros is None:
        raise InputError(
            f"{where}: column {time.column!r} is {kind.simpleString()}, which cannot be read as unit {time.unit!r}",
            hint="numbers need unit s, ms, us or day; dates and texts unit date or timestamp",
        )
    return F.when((micros >= 0) & (micros < END), micros)


def _scaled(value: Any, kind: T.DataType, factor: int) -> Any:
    if isinstance(kind, _WHOLE):
        return F.try_multiply(value.cast("bigint"), F.lit(factor).cast("bigint"))
    if isinstance(kind, T.StringType | T.DecimalType | T.DoubleType | T.FloatType):
        return (value.try_cast("decimal(26,6)") * F.lit(factor)).try_cast("bigint")
    return None


def _midnight(days: Any, offset: int) -> Any:
    """The moment at which a day begins on the data set's clock; out of range far away instead of overflowing."""
    if days is None:
        return None
    return F.when(days.between(-1, END // DAY + 1), days.cast("bigint") * DAY - offset)


def _date(value: Any, kind: T.DataType, pattern: str | None) -> Any:
    if isinstance(kind, T.DateType):
        return F.unix_date(value)
    if isinstance(kind, T.TimestampType | T.TimestampNTZType):
        return F.unix_date(value.cast("date"))
    if isinstance(kind, T.StringType) or (isinstance(kind, _WHOLE) and pattern is not None):
        text = value.cast("string")
        if pattern is None:
            return F.unix_date(text.try_cast("date"))
        return F.unix_date(F.try_to_timestamp(text, F.lit(pattern)).cast("date"))
    return None


def _timestamp(value: Any, kind: T.DataType, pattern: str | None) -> Any:
    if isinstance(kind, T.TimestampType):
        return F.unix_micros(value)
    if isinstance(kind, T.TimestampNTZType | T.DateType):
        return F.unix_micros(value.cast("timestamp"))
    if isinstance(kind, T.StringType):
        read = value.try_cast("timestamp") if pattern is None else F.try_to_timestamp(value, F.lit(pattern))
        return F.unix_micros(read)
    return None


def local(micros: Any, offset: int) -> Any:
    """Microseconds as the data set's clock counts them."""
    return micros + F.lit(offset).cast("bigint")


def day_number(micros: Any, offset: int) -> Any:
    """Days from 1970-01-01 to the day of a moment on the data set's clock."""
    clock = local(micros, offset)
    return ((clock - F.pmod(clock, F.lit(DAY).cast("bigint"))) / DAY).cast("int")


def hour(micros: Any, offset: int) -> Any:
    """Hour of the day, 0…23, on the data set's clock."""
    return F.floor(F.pmod(local(micros, offset), F.lit(DAY).cast("bigint")) / (3600 * SECOND)).cast("bigint")


def weekday(micros: Any, offset: int) -> Any:
    """Day of the week on the data set's clock, Monday 0 … Sunday 6; 1970-01-01 was a Thursday."""
    return F.pmod(day_number(micros, offset) + F.lit(3), F.lit(7)).cast("bigint")
