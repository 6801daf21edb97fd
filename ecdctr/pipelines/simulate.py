"""Make simulated logs where a data set asks for them."""

from pathlib import Path
from typing import Any

from ecdctr.config.schema import SparkConfig
from ecdctr.config.simulator import WorldConfig
from ecdctr.datasets.simulator import simulate
from ecdctr.lake.session import spark_session


def simulate_logs(out: Path, *, days: int, users: int, items: int, seed: int) -> dict[str, Any]:
    """Write the raw logs of one world below `out`; the same world already there is left as it is.

    Returns:
        Rows of both logs and their folders.
    """
    spark = spark_session(SparkConfig(), "ecdctr simulate")
    world = WorldConfig(days=days, users=users, items=items, seed=seed)
    return simulate(spark, out, world).model_dump(mode="json")
