"""Horovod seen from the driver: what ranks must find in their environment, and what it does that has to be done otherwise here.

Free of torch, which a driver that only starts ranks does not need.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from ecdctr.exceptions import TrainingError

logger = logging.getLogger(__name__)

# Milliseconds between two rounds of Horovod's background thread, in which an exchange is agreed on: Horovod's default. Shorter
# ones save little, and wake a rank that waits more often.
CYCLE_MILLISECONDS = 1.0
# Where the steps' exchange goes through shared memory, little is left for that thread; its rounds would only take time from
# the rank's own core.
SELDOM_MILLISECONDS = 10.0


def horovod_environment(stall_seconds: int, *, seldom: bool = False) -> dict[str, str]:
    """What must stand in a rank's environment before it joins.

    Args:
        stall_seconds: After so long without a sign from another rank, a rank gives up instead of waiting for ever.
        seldom: Whether Horovod carries only what the ranks exchange between their steps.
    """
    return {
        "HOROVOD_STALL_CHECK_TIME_SECONDS": str(max(1, stall_seconds // 2)),
        "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": str(stall_seconds),
        # The stall check runs on a live coordinator only: a frozen peer blocks the round itself, which this bounds.
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(stall_seconds),
        "HOROVOD_CYCLE_TIME": str(SELDOM_MILLISECONDS if seldom else CYCLE_MILLISECONDS),
    }


@contextmanager
def as_shutdown_event(event: threading.Event, on_launch: Callable[[], None]) -> Iterator[None]:
    """Have Horovod end its ranks on our event.

    Its own takes over SIGINT and SIGTERM, which Python allows in the main thread alone and which are not Horovod's here.

    Args:
        event: Ends the ranks when set.
        on_launch: Called when Spark's tasks are up and the ranks' processes are about to be started.
    """
    from horovod.runner import gloo_run

    def register() -> threading.Event:
        on_launch()
        return event

    original = gloo_run.register_shutdown_event
    gloo_run.register_shutdown_event = register
    try:
        yield
    finally:
        gloo_run.register_shutdown_event = original


@contextmanager
def silent_spark_thread() -> Iterator[None]:
    """Keep Horovod's thread that waits for its Spark job from printing a traceback where that job was cancelled.

    What led to the cancelling is raised by `horovod.spark.run` itself.
    """
    original = threading.excepthook

    def hook(found: threading.ExceptHookArgs) -> None:
        if found.thread is not None and "run_spark" in found.thread.name:
            logger.debug("Horovod's Spark job ended: %s", found.exc_value)
        else:
            original(found)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = original


def loopback() -> str:
    """Name of the interface that carries 127.0.0.1."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == "127.0.0.1" for address in addresses):
            return name
    raise TrainingError("this machine has no network interface with address 127.0.0.1", hint="bring up lo")
