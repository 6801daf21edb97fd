"""Make simulated logs where a data set asks for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ecdctr.config import Config
from ecdctr.config.schema import SparkConfig
from ecdctr.config.simulator import WorldConfig
from ecdctr.datasets.simulator import simulate
from ecdctr.exceptions import InputError
from ecdctr.lake.session import spark_session


def defaults() -> list[str]:
    """The world that no configuration describes, as overrides of one."""
    return [f"dataset.simulator.{name}={value}" for name, value in WorldConfig().model_dump(mode="json").items()]


def simulate_logs(out: Path, config: Config | None, given: Mapping[str, int]) -> dict[str, Any]:
    """Write the raw logs of one world below `out`; the same world already there is left as it is.

    Args:
        out: Folder for the two logs.
        config: Whose world it is; None: one of `WorldConfig`'s defaults.
        given: Its numbers that are to be others.

    Returns:
        Rows of both logs and their folders.

    Raises:
        InputError: A configuration without a simulator, or a number that no world has.
    """
    world = WorldConfig() if config is None else config.dataset.simulator
    if world is None:
        raise InputError(
            "the configuration has no dataset.simulator",
            hint="leave out --config, or name one such as conf/datasets/simulated.yml",
        )
    try:
        world = WorldConfig.model_validate({**world.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"--{first['loc'][0]} {first['input']}: {first['msg']}", hint="see ecdctr simulate --help"
        ) from error
    spark = spark_session(SparkConfig() if config is None else config.spark, "ecdctr simulate")
    return simulate(spark, out, world).model_dump(mode="json")
