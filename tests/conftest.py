"""Fixtures shared by all lanes."""

import os
import sys
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from ecdctr.config.schema import SparkConfig
from ecdctr.lake.session import spark_session


def pytest_configure(config: pytest.Config) -> None:
    # Spark's workers, also those of a script that a test starts, run where the package is installed.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # The bridge to the JVM leaves the sockets of ended threads to the garbage collector.
    config.addinivalue_line("filterwarnings", "ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The one Spark session of a test run; starting one costs several seconds."""
    # Frames of a few hundred rows: compiling code for each query would take longer than all queries together.
    settings = SparkConfig(
        master="local[4]",
        driver_memory="1g",
        shuffle_partitions=2,
        options={"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"},
    )
    session = spark_session(settings, "ecdctr tests")
    yield session
    session.stop()
