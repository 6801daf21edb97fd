"""One file per way of computing a feature; a kind is registered by its line here.

An encoder takes the feature's specification, the rows so far and the scene, and gives the rows, perhaps with further
columns joined to them under names that begin with `_NAME_`, and one expression per column of the sample. What it reads
of other rows must lie strictly before the row's day.
"""

from collections.abc import Callable
from typing import Any

from pyspark.sql import DataFrame

from ecdctr.etl.kinds import age, buckets, identifiers, lists, numbers, rates, times
from ecdctr.etl.scene import Scene

Encoder = Callable[[Any, DataFrame, Scene], tuple[DataFrame, dict[str, Any]]]

ENCODERS: dict[str, Encoder] = {
    "id": identifiers.encode,
    "cross": identifiers.encode,
    "ids": lists.encode,
    "number": numbers.encode,
    "bucket": buckets.encode,
    "quantile": buckets.encode_quantiles,
    "time": times.encode,
    "age": age.encode,
    "rate": rates.encode,
}
"""By kind; click sequences are made of the encoded rows, by `ecdctr.etl.sequences`."""
