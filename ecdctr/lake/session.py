"""The Spark session: one per process, with Delta, quick to start."""

import atexit
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyspark
from delta import configure_spark_with_delta_pip
from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from ecdctr.config.schema import SparkConfig
from ecdctr.exceptions import ConfigError, NotReadyError
from ecdctr.lake.jars import cache_folder, delta_jars

logger = logging.getLogger(__name__)

EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"
CATALOG = "org.apache.spark.sql.delta.catalog.DeltaCatalog"
SUBMITTED = "PYSPARK_GATEWAY_PORT"
"""Set by spark-submit, which has started the JVM already: its master, memory and jars stand."""
LOCAL_JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m"
"""For minutes on few cores: the optimising compiler takes more time from the work than it gives back (a third, measured).
With one compiler the JVM keeps 48 MB for compiled code, which Spark and Delta fill; after that it only interprets.
Hours of work want `spark.options: {spark.driver.extraJavaOptions: -XX:+UseParallelGC}`."""
COMPACTED_BYTES = 128 * 2**20
QUIET_LOG = """rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
logger.gateway.name = org.apache.spark.api.python.PythonGatewayServer
logger.gateway.level = error
logger.executor.name = org.apache.spark.executor.Executor
logger.executor.level = off
logger.tasks.name = org.apache.spark.scheduler.TaskSetManager
logger.tasks.level = off
logger.writer.name = org.apache.spark.sql.delta.files.DeltaFileFormatWriter
logger.writer.level = off
logger.util.name = org.apache.spark.util.Utils
logger.util.level = off
logger.context.name = org.apache.spark.TaskContextImpl
logger.context.level = off
logger.broadcast.name = org.apache.spark.broadcast.TorrentBroadcast
logger.broadcast.level = off
"""
"""A failed task's error reaches the caller as an exception; its stack traces on stderr would only bury the message."""


def spark_session(settings: SparkConfig, app_name: str) -> SparkSession:
    """The active session where there is one, else a new one.

    Args:
        settings: Master, memory and further options; under spark-submit what was submitted comes first.
        app_name: Shown in Spark's own tools.

    Raises:
        ConfigError: The active session, or what was submitted, lacks Delta.
    """
    active = SparkSession.getActiveSession()
    if active is not None:
        return with_delta(active)
    submitted = SUBMITTED in os.environ
    wanted = _options(settings, submitted) | settings.options
    builder = SparkSession.builder.appName(app_name)
    if submitted:
        SparkContext._ensure_initialized()
        given = {key for key, _ in SparkConf().getAll()}
        wanted = {key: value for key, value in wanted.items() if key not in given}
    for key, value in wanted.items():
        builder = builder.config(key, value)
    if not submitted and "spark.jars" not in wanted:
        builder = configure_spark_with_delta_pip(builder)
    if not submitted:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    handler = signal.getsignal(signal.SIGINT)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    _go_quietly(session, handler)
    return with_delta(session)


def _go_quietly(session: SparkSession, handler: Any) -> None:
    """Leave Ctrl-C to the handler that the command line has set, and say nothing of a JVM that ends before this process does."""
    # PySpark's own asks the JVM to cancel its jobs: another error than KeyboardInterrupt where the JVM is gone.
    if handler is not signal.default_int_handler and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)
    # A JVM that ends amid its tasks tells of each: nothing that could still be acted on.
    atexit.register(_hush, session)
    server: Any = getattr(session.sparkContext, "_accumulatorServer", None)
    if server is None:
        return
    tell = server.handle_error

    def handle_error(request: Any, address: Any) -> None:
        if not isinstance(sys.exception(), EOFError | ConnectionError):
            tell(request, address)

    server.handle_error = handle_error


def _hush(session: SparkSession) -> None:
    """Let the JVM log nothing more; it may be gone."""
    with suppress(Exception):
        session.sparkContext.setLogLevel("OFF")


def _options(settings: SparkConfig, submitted: bool) -> dict[str, str]:
    options = {
        "spark.sql.extensions": EXTENSION,
        "spark.sql.catalog.spark_catalog": CATALOG,
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.shuffle_partitions),
        "spark.sql.adaptive.enabled": "true",
        # A lost rank must end the training, not be started again into a ring that has gone on without it.
        "spark.task.maxFailures": "1",
        "spark.speculation": "false",
        "spark.dynamicAllocation.enabled": "false",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # A file of samples is one row group: the unit that readers shard by.
        "spark.hadoop.parquet.block.size": str(512 * 2**20),
        # Logs of these tables are small; Delta's default of 50 tasks to read one costs more than the reading.
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.databricks.delta.stalenessLimit": "0",
        # A task of a compaction keeps one file's row group in memory: Delta's default of 1 GB would be more than a small heap.
        "spark.databricks.delta.optimize.maxFileSize": str(COMPACTED_BYTES),
        "spark.databricks.delta.optimize.minFileSize": str(COMPACTED_BYTES // 2),
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(settings.shuffle_partitions),
    }
    if submitted:
        return options
    options |= {"spark.master": settings.master, "spark.driver.memory": settings.driver_memory}
    log = _quiet_log().as_uri()
    options["spark.driver.extraJavaOptions"] = f"{LOCAL_JVM} -Dlog4j2.configurationFile={log}"
    if settings.master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        options |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    try:
        options["spark.jars"] = ",".join(str(jar) for jar in delta_jars())
    except NotReadyError as error:
        logger.info("%s; Spark fetches them", error.message)
    return options


def _quiet_log() -> Path:
    """Log settings that keep the JVM silent from its first moment, when `setLogLevel` cannot reach it yet."""
    # Not at a name in a folder of all users, where another one could have put other settings.
    path = cache_folder() / "log4j2.properties"
    try:
        if not path.exists() or path.read_text() != QUIET_LOG:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(QUIET_LOG)
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="ecdctr-")) / path.name
        path.write_text(QUIET_LOG)
        atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    return path


def with_delta(session: SparkSession) -> SparkSession:
    """A session as this package needs it: it has Delta, and from here on its time zone is UTC, by which days are counted.

    Raises:
        ConfigError: The session lacks Delta.
    """
    extensions = session.conf.get("spark.sql.extensions", "") or ""
    if EXTENSION not in extensions or not _has_delta_jars(session):
        raise ConfigError(
            f"the Spark session {session.sparkContext.appName!r} has no Delta Lake",
            hint="stop it, or start it with --packages io.delta:delta-spark_2.13:4.0.1 "
            f"--conf spark.sql.extensions={EXTENSION} --conf spark.sql.catalog.spark_catalog={CATALOG} "
            f"(Spark {pyspark.__version__})",
        )
    if session.conf.get("spark.sql.session.timeZone") != "UTC":
        logger.info("setting the Spark session's time zone to UTC")
        session.conf.set("spark.sql.session.timeZone", "UTC")
    return session


def _has_delta_jars(session: SparkSession) -> bool:
    jvm: Any = session.sparkContext._jvm
    try:
        jvm.java.lang.Class.forName(CATALOG, False, jvm.Thread.currentThread().getContextClassLoader())
    except Py4JError:
        return False
    return True
