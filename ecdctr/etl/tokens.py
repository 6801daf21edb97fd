"""Tokens and their buckets on Spark: the twin of `ecdctr.features.encoding`."""

import re
from collections.abc import Sequence
from typing import Any

from pyspark.sql import functions as F

from ecdctr.etl.source import column
from ecdctr.features.encoding import FIRST_BUCKET, MISSING, SEPARATOR, first_token_id


def token(names: Sequence[str], domain: str | None) -> Any:
    """The token of one or more columns of impressions; null where all of them are missing.

    Args:
        names: The columns; a part that is missing beside others counts as empty text.
        domain: Set where the vocabulary keeps the domains apart.
    """
    parts = [column(name).cast("string") for name in names]
    text = parts[0] if len(parts) == 1 else F.concat_ws(SEPARATOR, *(F.coalesce(part, F.lit("")) for part in parts))
    present = F.coalesce(*(F.when(part != "", F.lit(True)) for part in parts)).isNotNull()
    marked = text if domain is None else F.concat(F.lit(domain + SEPARATOR), text)
    return F.when(present, marked)


def tokens(name: str, separator: str, domain: str | None) -> Any:
    """The tokens of a column that holds several, in order, as an array; null where it is missing.

    Args:
        name: The column; what was an array in the log has `SEPARATOR` between its values.
        separator: Stands between the tokens of a text.
        domain: Set where the vocabulary keeps the domains apart.
    """
    parts = F.split(column(name), f"{SEPARATOR}|{re.escape(separator)}")
    parts = F.filter(F.transform(parts, lambda part: F.trim(part)), lambda part: part != "")
    return parts if domain is None else F.transform(parts, lambda part: F.concat(F.lit(domain + SEPARATOR), part))


def bucket(text: Any, oov_buckets: Any) -> Any:
    """Out-of-vocabulary bucket, 0-based: CRC-32 of the UTF-8 bytes modulo the buckets."""
    return F.crc32(text) % F.lit(oov_buckets).cast("bigint")


def encoded(text: Any, known_id: Any, oov_buckets: int) -> Any:
    """Id of a token: its own where it has one, else its bucket's; 1 where it is missing."""
    unknown = bucket(text, oov_buckets) + F.lit(FIRST_BUCKET)
    return F.when(text.isNull(), F.lit(MISSING)).otherwise(F.coalesce(known_id, unknown)).cast("bigint")


def bucket_of_id(known_id: Any, oov_buckets: int) -> Any:
    """The id that an encoder without this token would have given."""
    first = first_token_id(oov_buckets)
    return F.when(known_id < first, known_id).otherwise(F.pmod(known_id - first, F.lit(oov_buckets)) + FIRST_BUCKET)
