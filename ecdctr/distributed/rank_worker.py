"""What runs in a rank's process: join the others, then do the tasks that lie in the mailbox, until told to leave.

Kept free of pyspark and, until Spark's part is over, of torch, so that the time of each step of the start is known.
"""

import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ecdctr import log, processes
from ecdctr.distributed.failures import describe, jsonable
from ecdctr.distributed.mailbox import (
    ABORT,
    CLOSE,
    DRIVER,
    STOP,
    Mailbox,
    Pulse,
    life_name,
    ready_name,
    result_name,
    task_name,
)
from ecdctr.distributed.placement import bind
from ecdctr.distributed.tasks import Signals, run_task
from ecdctr.exceptions import TemporaryError

if TYPE_CHECKING:
    from ecdctr.distributed.collective import Collective

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.25
POLL_SECONDS = (0.002, 0.05)


def serve(folder: str, threads: int, stall_seconds: int, local_exchange: str, bind_to_cores: bool) -> None:
    """Be a rank; does not return.

    Args:
        folder: The mailbox.
        threads: Threads that torch may use.
        stall_seconds: After so long without a sign of the driver or of another rank the process ends itself.
        local_exchange: `shared_memory`: ranks that all share one machine exchange through its memory; `horovod`: never.
        bind_to_cores: Whether to keep to cores of its own, where the ranks of its machine take all of them.
    """
    age = _age()
    mailbox = Mailbox(Path(folder))
    rank = int(os.environ["HOROVOD_RANK"])
    _write_to_log(mailbox.log_of(rank))
    if bind_to_cores:
        # Before any other thread is started: threads inherit it.
        bind(int(os.environ["HOROVOD_LOCAL_RANK"]), int(os.environ["HOROVOD_LOCAL_SIZE"]), threads)
    watch = _Watch(mailbox, rank, stall_seconds)
    watch.start()
    try:
        _serve(mailbox, rank, threads, watch, age, stall_seconds if local_exchange == "shared_memory" else None)
    except BaseException as error:
        logger.exception("rank %d ends", rank)
        mailbox.write(ready_name(rank), {"error": describe(error)})
    _leave()


def _serve(
    mailbox: Mailbox, rank: int, threads: int, watch: "_Watch", age: float, share_for_seconds: int | None
) -> None:
    since = time.perf_counter()
    import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
    import torch

    from ecdctr.distributed.horovod_backend import HorovodCollective
    from ecdctr.distributed.shared_memory import sharing_memory

    torch.set_num_threads(threads)
    imported = time.perf_counter()
    collective: Collective = HorovodCollective()
    joined = time.perf_counter()
    collective.barrier()
    if share_for_seconds is not None:
        collective = sharing_memory(collective, share_for_seconds)
    reduced = time.perf_counter()
    seconds = {
        "rank_imports": age,
        "torch_import": imported - since,
        "rendezvous": joined - imported,
        "first_all_reduce": reduced - joined,
    }
    mailbox.write(ready_name(rank), {"seconds": seconds})
    number = 1
    while (message := _next_task(mailbox, number)) is not None:
        reply = _answer(message, collective, watch)
        mailbox.write(result_name(number, rank), reply)
        if "error" in reply:
            # Leaving breaks the exchange in which other ranks may wait for this one.
            _leave()
        number += 1


def _age() -> float:
    """Seconds since this process began, by the clock that counts from the machine's start: psutil knows that start to the second only."""
    born = psutil.Process().create_time() - psutil.boot_time()
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - born)


def _answer(message: dict[str, Any], collective: "Collective", watch: "_Watch") -> dict[str, Any]:
    watch.progress = {}
    try:
        signals = Signals(stop_requested=lambda: watch.stop, report=watch.report)
        result = run_task(message["name"], collective, message["payload"], signals)
        return {"result": jsonable(result, message["name"])}
    except Exception as error:
        logger.exception("task %s failed", message["name"])
        return {"error": describe(error)}
    except BaseException as error:
        logger.exception("task %s was interrupted", message["name"])
        return {"error": describe(TemporaryError(f"rank {collective.rank} was interrupted: {error!r}"))}


def _next_task(mailbox: Mailbox, number: int) -> dict[str, Any] | None:
    """Wait for a task; None when the ranks are to leave."""
    pause, longest = POLL_SECONDS
    while True:
        message: dict[str, Any] | None = mailbox.read(task_name(number))
        if message is not None:
            return message
        if mailbox.has(CLOSE):
            return None
        time.sleep(pause)
        pause = min(pause * 1.1, longest)


class _Watch(threading.Thread):
    """Shows that this rank lives, and sees whether the driver does."""

    def __init__(self, mailbox: Mailbox, rank: int, stall_seconds: int) -> None:
        super().__init__(name="watch", daemon=True)
        self.mailbox, self.rank, self.stall_seconds = mailbox, rank, stall_seconds
        self.stop = False
        self.progress: dict[str, Any] = {}
        self._process = processes.identity()

    def report(self, progress: dict[str, Any]) -> None:
        """Keep where the task stands; written with the next beat, so that a step costs nothing."""
        self.progress = progress

    def run(self) -> None:
        driver, beat = Pulse(), 0
        while True:
            beat += 1
            try:
                self.mailbox.write(
                    life_name(self.rank), {"beat": beat, "progress": self.progress, "process": self._process}
                )
                self.stop = self.stop or self.mailbox.has(STOP)
                seen = self.mailbox.read(DRIVER)
                silent = driver.see(seen["beat"] if seen else None)
                leave = self.mailbox.has(ABORT) or silent > self.stall_seconds
                why = f"the driver has been silent for {silent:.0f} s" if silent > self.stall_seconds else "aborted"
            except OSError as error:
                leave, why = not self.mailbox.folder.exists(), f"the mailbox is gone: {error}"
            if leave:
                logger.error("rank %d ends: %s", self.rank, why)
                _leave()
            time.sleep(WATCH_SECONDS)


def _write_to_log(path: Path) -> None:
    """Send stdout and stderr, also those of C++ code, to a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)
    log.configure()


def _leave() -> None:
    """End the process without the interpreter's own end, which takes a while and may hang in a thread of Horovod's.

    Always with 0: what went wrong is in the mailbox. Any other code has Horovod cancel the Spark job, with tracebacks.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], bool(int(sys.argv[5])))
