"""Ranks that stay warm, on Spark or on this machine alone: started once for many tasks."""

import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ecdctr.distributed.failures import revive, worst
from ecdctr.distributed.horovod_driver import as_shutdown_event, horovod_environment, loopback, silent_spark_thread
from ecdctr.distributed.lives import Lives
from ecdctr.distributed.local_ranks import Machines, run_ranks
from ecdctr.distributed.mailbox import (
    ABORT,
    CLOSE,
    DRIVER,
    STOP,
    Mailbox,
    ready_name,
    result_name,
    task_name,
)
from ecdctr.distributed.rank_worker import serve
from ecdctr.distributed.spark_slots import check_spark, is_local
from ecdctr.distributed.stop_signals import stop_on_signal
from ecdctr.exceptions import EcdctrError, InputError, TemporaryError, TrainingError
from ecdctr.native import built

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger(__name__)

OnProgress = Callable[[dict[str, Any]], None]
BEAT_SECONDS = 0.5
POLL_SECONDS, LONGEST_POLL_SECONDS = 0.01, 0.1
LATER = 1 / 50
"""How much later than it need be a long task is seen to have ended: looking takes a rank's core from it."""
LOOK_SECONDS = 0.25
ECHO_SECONDS = 2.0
"""How long an error that only echoes another rank's waits for that rank's own."""
END_SECONDS = 15.0
ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""A step takes and frees the same tens of megabytes as the one before. By default the C library gives such blocks back to the system,
which clears every page anew. Other C libraries know other names, or none."""
ENDED = "has ended without an answer, killed or out of memory"


def parts_of_start(spark_tasks: float, whole: float, of_rank: dict[str, float]) -> dict[str, float]:
    """Seconds of each part of the start of a session; they sum up to the whole, and none is negative.

    Clocks of two machines, or the wall clock and that of a process's birth, may be seconds apart. So only durations that one
    clock measured are compared: what neither Spark nor the rank accounts for is the starting of the process.

    Args:
        spark_tasks: Until the ranks' processes were asked for, on the driver's clock.
        whole: Until all ranks had answered, on the driver's clock.
        of_rank: Parts of the slowest rank's start from its process's birth, on its own clock.
    """
    rest = whole - spark_tasks - sum(of_rank.values())
    return {"spark_tasks": max(0.0, spark_tasks + min(0.0, rest)), "process_start": max(0.0, rest), **of_rank}


class RankSession:
    """Rank processes that wait for tasks, and the driver's side of talking to them.

    With Spark, each rank runs in a Spark task and holds its slot until the session ends; without, the ranks are processes of
    this machine, which spares the start of Spark where no table has to be read through it. Any error ends the session: ranks that
    have lost one of them cannot go on. A SIGTERM or Ctrl-C during `call` in the main thread asks the task to stop at its next step.

    Args:
        spark: The session whose executors host the ranks; None: this machine hosts them.
        ranks: How many.
        mailbox: An empty or missing folder on a file system that driver and executors share. It is removed when the
            session ends well, and kept, with the ranks' logs, when it does not.
        threads_per_rank: Threads that torch may use in each rank.
        stall_seconds: After so long without a sign of life a rank, or the driver, counts as lost.
        local_exchange: How ranks exchange that all share one machine: through its memory (`shared_memory`), or as ranks of several
            machines do (`horovod`).
        env: Further environment variables of the ranks.
        bind_to_cores: Whether a rank keeps to cores of its own where the ranks of its machine have as many threads as there are cores.
        start_seconds: How long the ranks may take to be ready; queues of a busy cluster count too.
        machines: Without Spark, the ranks' addresses where they do not share the driver's.

    Attributes:
        startup: Seconds of each part of the start, one after the other; they sum up to the whole.
    """

    def __init__(
        self,
        spark: "SparkSession | None",
        ranks: int,
        mailbox: Path,
        threads_per_rank: int,
        stall_seconds: int = 60,
        local_exchange: str = "shared_memory",
        env: dict[str, str] | None = None,
        bind_to_cores: bool = True,
        start_seconds: int = 300,
        machines: Machines | None = None,
    ) -> None:
        self.spark = spark
        self.ranks = ranks
        self.mailbox = Mailbox(Path(mailbox).absolute())
        self.threads_per_rank = threads_per_rank
        self.stall_seconds = stall_seconds
        # Ranks with addresses of their own are to meet over the network, also where it is simulated on one machine.
        self.local_exchange = local_exchange if machines is None else "horovod"
        self.bind_to_cores = bind_to_cores
        self.start_seconds = start_seconds
        self.startup: dict[str, float] = {}
        self._env = env or {}
        self._machines = machines
        self._number = 0
        self._over = threading.Event()
        self._kill = threading.Event()
        self._launched_at = 0.0
        self._launch_error: BaseException | None = None
        self._launcher = threading.Thread(target=self._launch, name="horovod-spark-run", daemon=True)
        self._beating = threading.Thread(target=self._beat, name="driver-beat", daemon=True)
        self._lives = Lives(self.mailbox, ranks)
        self._looked = 0.0
        self._asked_at: float | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the ranks and wait until all have exchanged a first number.

        Raises:
            ConfigError: Spark cannot hold the ranks.
            InputError: The mailbox is not empty.
            TemporaryError: The ranks were not ready in time.
            TrainingError: A rank failed to start.
        """
        if self.spark is not None:
            check_spark(self.spark.sparkContext.getConf().get, self.ranks)
        folder = self.mailbox.folder
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"the mailbox {folder} is not empty", hint="give each session a folder of its own")
        began = time.time()
        self._beating.start()
        self._launcher.start()
        try:
            ready = self._wait_until_ready(began)
        except BaseException:
            self._abort()
            raise
        slowest = max(ready, key=lambda rank: sum(ready[rank]["seconds"].values()))
        self.startup = parts_of_start(self._launched_at - began, time.time() - began, ready[slowest]["seconds"])
        logger.info("%d ranks ready after %.1f s", self.ranks, time.time() - began)

    def call(self, name: str, payload: dict[str, Any], on_progress: OnProgress | None = None) -> list[dict[str, Any]]:
        """Run a task on all ranks.

        Args:
            name: A task of `ecdctr.distributed.tasks`.
            payload: What it is told, as JSON, the same on all ranks.
            on_progress: Called now and then with what rank 0 has last reported.

        Returns:
            The task's results in the order of ranks.

        Raises:
            EcdctrError: What a rank raised, of its own kind; the session is over.
            TrainingError: Any other error of a rank, or a rank that is lost; the session is over.
            TemporaryError: A stop was asked for; the session is over.
        """
        if self._over.is_set():
            raise TrainingError("this session's ranks have ended", hint="open a new session")
        self._number += 1
        replies: dict[int, dict[str, Any]] = {}
        try:
            with stop_on_signal(lambda: self._asked_at is not None, self.stop, "stopping at the next step"):
                self.mailbox.write(task_name(self._number), {"name": name, "payload": payload})
                began = time.monotonic()
                while len(replies) < self.ranks:
                    time.sleep(min(max((time.monotonic() - began) * LATER, POLL_SECONDS), LONGEST_POLL_SECONDS))
                    # Looking collects as well, so it comes before the last look at what was collected.
                    self._look(replies, on_progress)
                    self._collect(replies)
                    if worst(replies) is not None:
                        raise self._failure(replies)
                    if self._asked_at is not None and time.monotonic() - self._asked_at > self.stall_seconds:
                        raise TemporaryError(f"the ranks did not stop within {self.stall_seconds} s; they were ended")
        except BaseException:
            self._abort()
            raise
        if self._asked_at is not None:
            raise TemporaryError(f"stopped as asked, after task {name!r} had ended", hint="call again to go on")
        return [replies[rank]["result"] for rank in range(self.ranks)]

    def stop(self) -> None:
        """Ask the task that runs, or the next one, to stop at its next step; from any thread."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            # Where the session is over, its folder may be gone.
            with suppress(OSError):
                self.mailbox.raise_flag(STOP)

    def abort(self) -> None:
        """End all ranks now; from any thread. A call that waits for them raises."""
        if not self._over.is_set():
            self._abort()

    def close(self) -> None:
        """Let the ranks go; does nothing where the session is over already."""
        if self._over.is_set():
            return
        self.mailbox.raise_flag(CLOSE)
        self._launcher.join(END_SECONDS)
        if self._launcher.is_alive():
            logger.warning("the ranks did not leave within %.0f s; they are ended", END_SECONDS)
            self._abort()
            return
        self._over.set()
        self._beating.join()
        shutil.rmtree(self.mailbox.folder, ignore_errors=True)

    def _launch(self) -> None:
        try:
            if self.spark is None:
                self._launch_here()
            else:
                self._launch_on(self.spark)
        except BaseException as error:
            self._launch_error = error

    def _launch_here(self) -> None:
        self._note_launch()
        run_ranks(
            self.mailbox.folder,
            self.ranks,
            self.threads_per_rank,
            self.stall_seconds,
            self.local_exchange,
            self.bind_to_cores,
            self._environment(),
            self._kill,
            self._machines,
        )

    def _launch_on(self, spark: "SparkSession") -> None:
        import horovod.spark

        local = is_local(spark.sparkContext.master or "")
        with as_shutdown_event(self._kill, self._note_launch), silent_spark_thread():
            horovod.spark.run(
                serve,
                args=(
                    str(self.mailbox.folder),
                    self.threads_per_rank,
                    self.stall_seconds,
                    self.local_exchange,
                    self.bind_to_cores,
                ),
                num_proc=self.ranks,
                use_gloo=True,
                env=self._environment(),
                start_timeout=self.start_seconds,
                # Given, it spares the search for an interface that all machines reach.
                nics={loopback()} if local else None,
                verbose=0,
            )

    def _note_launch(self) -> None:
        self._launched_at = time.time()

    def _environment(self) -> dict[str, str]:
        threads = str(self.threads_per_rank)
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        here = self.spark is None or is_local(self.spark.sparkContext.master or "")
        # Looked for, not loaded: loading imports torch, which the driver does without.
        seldom = here and built(__file__, "_counters") is not None and self.local_exchange == "shared_memory"
        return counts | ALLOCATION | self._env | horovod_environment(self.stall_seconds, seldom=seldom)

    def _wait_until_ready(self, began: float) -> dict[int, dict[str, Any]]:
        ready: dict[int, dict[str, Any]] = {}
        while len(ready) < self.ranks:
            time.sleep(POLL_SECONDS)
            for rank in range(self.ranks):
                report = self.mailbox.read(ready_name(rank)) if rank not in ready else None
                if report is not None and "error" in report:
                    raise revive(report["error"], rank, str(self.mailbox.log_of(rank)))
                if report is not None:
                    ready[rank] = report
            self._look(ready, None)
            if time.time() - began > self.start_seconds:
                raise TemporaryError(
                    f"{self.ranks - len(ready)} of {self.ranks} ranks were not ready after {self.start_seconds} s",
                    hint="see whether Spark has free slots, and the ranks' logs in " + str(self.mailbox.folder),
                )
        return ready

    def _collect(self, replies: dict[int, dict[str, Any]]) -> None:
        for rank in set(range(self.ranks)) - replies.keys():
            reply = self.mailbox.read(result_name(self._number, rank))
            if reply is not None:
                replies[rank] = reply

    def _failure(self, replies: dict[int, dict[str, Any]]) -> EcdctrError:
        """The error to raise: a rank's own, waited for a little while only echoes of it have come."""
        deadline = time.monotonic() + ECHO_SECONDS
        while (found := worst(replies)) is not None and found[1]["echo"] and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            self._collect(replies)
            self._lives.look()
        rank, error = found or (0, {})
        if error["echo"]:
            for other in set(range(self.ranks)) - replies.keys():
                if self._lives.gone(other):
                    return self._lost(other, ENDED)
                if self._lives.silence(other) > ECHO_SECONDS / 2:
                    return self._lost(other, f"has given no sign of life for {self._lives.silence(other):.0f} s")
        return revive(error, rank, str(self.mailbox.log_of(rank)))

    def _look(self, answered: dict[int, dict[str, Any]], on_progress: OnProgress | None) -> None:
        """See from time to time whether the ranks live, and where they stand."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self._lives.look()
        silent = [rank for rank in range(self.ranks) if self._lives.silence(rank) > self.stall_seconds]
        if silent:
            raise self._lost(silent[0], f"has given no sign of life for {self._lives.silence(silent[0]):.0f} s")
        ended = not self._launcher.is_alive()
        if ended and self._number == 0 and self._launch_error is not None:
            raise TrainingError(
                f"the ranks could not be started: {self._launch_error}", hint=f"see the logs in {self.mailbox.folder}"
            ) from self._launch_error
        gone = [rank for rank in range(self.ranks) if rank not in answered and (ended or self._lives.gone(rank))]
        # A rank may have answered just before it left.
        self._collect(answered)
        if worst(answered) is None and not answered.keys() >= set(gone):
            raise self._lost(gone[0], ENDED) from self._launch_error
        if on_progress is not None and self._lives.progress():
            on_progress(self._lives.progress())

    def _lost(self, rank: int, how: str) -> TrainingError:
        return TrainingError(
            f"rank {rank} {how}; the other ranks were ended",
            hint=f"run again to go on from the last checkpoint; the ranks' logs are in {self.mailbox.folder}",
        )

    def _abort(self) -> None:
        """End all ranks now, whatever they do: by request, by signal, and through Spark."""
        self._over.set()
        # Where the folder is gone the ranks leave without being asked.
        with suppress(OSError):
            self.mailbox.raise_flag(ABORT)
        self._launcher.join(2 * LOOK_SECONDS + 0.5)
        self._lives.kill()
        self._kill.set()
        self._launcher.join(END_SECONDS)
        if self._launcher.is_alive():
            logger.warning("Horovod's Spark job has not ended after %.0f s; it is left to Spark", END_SECONDS)

    def _beat(self) -> None:
        beat = 0
        while not self._over.is_set():
            beat += 1
            try:
                self.mailbox.write(DRIVER, {"beat": beat})
            except OSError as error:
                logger.warning("cannot write to the mailbox: %s", error)
            self._over.wait(BEAT_SECONDS)
