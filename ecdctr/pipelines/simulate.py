"""Make simulated logs where a data set asks for them."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ecdctr.config.schema import SparkConfig
from ecdctr.config.simulator import WorldConfig
from ecdctr.datasets.simulator import simulate
from ecdctr.exceptions import InputError
from ecdctr.lake.session import spark_session


def simulate_logs(out: Path, *, days: int, users: int, items: int, seed: int) -> dict[str, Any]:
    """Write the raw logs of one world below `out`; the same world already there is left as it is.

    Returns:
        Rows of both logs and their folders.

    Raises:
        InputError: A number that no world has.
    """
    try:
        world = WorldConfig(days=days, users=users, items=items, seed=seed)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"--{first['loc'][0]} {first['input']}: {first['msg']}", hint="see ecdctr simulate --help"
        ) from error
    spark = spark_session(SparkConfig(), "ecdctr simulate")
    return simulate(spark, out, world).model_dump(mode="json")
