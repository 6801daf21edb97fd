"""A standalone Spark cluster: a master and two workers, each a JVM of its own, where possible with addresses of their own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyspark

from benchmarks.namespaces import Network

BIN = Path(pyspark.__file__).parent / "bin"
LOOPBACK = "127.0.0.1"
# Spark tells machines apart by address, and never tries a task again on one where it is running.
WORKERS = ("127.0.0.2", "127.0.0.3")


@dataclass(frozen=True)
class Place:
    """Where a program runs: its address, and what stands before its command line."""

    address: str
    command: tuple[str, ...] = ()

    def surroundings(self) -> dict[str, str]:
        return os.environ | {"SPARK_LOCAL_IP": self.address, "PYSPARK_PYTHON": sys.executable}


@dataclass(frozen=True)
class Cluster:
    """A running cluster with two workers of one core each, and the place of its driver."""

    url: str
    driver: Place
    log: Path

    def submit(self, *arguments: str, cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run `spark-submit` at the driver's place."""
        return subprocess.run(
            [*self.driver.command, str(BIN / "spark-submit"), "--master", self.url, *arguments],
            capture_output=True, text=True, timeout=timeout, cwd=cwd, env=self.driver.surroundings(), check=False,
        )  # fmt: skip


@contextmanager
def cluster(folder: Path, network: Network | None) -> Iterator[Cluster]:
    """Start a cluster, and end it.

    Args:
        folder: Of logs and the workers' files.
        network: Two machines for the workers, with master and driver at the bridge; None: all on the loopback interface.
    """
    driver, workers = places(network)
    port = free_port()
    url, log = f"spark://{driver.address}:{port}", folder / "master.log"
    with ExitStack() as stack:
        # Standalone daemons look for a free port upwards where the page's is taken.
        begin = ["Master", "--host", driver.address, "--port", str(port), "--webui-port", "0"]
        stack.enter_context(daemon(driver, log, *begin))
        wait_for(log, "I have been elected leader")
        for at, worker in enumerate(workers):
            begin = ["Worker", "--host", worker.address, "--webui-port", "0"]
            begin += ["-c", "1", "-m", "1g", "-d", str(folder / f"worker{at}"), url]
            stack.enter_context(daemon(worker, folder / f"worker{at}.log", *begin))
        for at in range(len(workers)):
            wait_for(folder / f"worker{at}.log", "Successfully registered with master")
        yield Cluster(url, driver, log)


def places(network: Network | None) -> tuple[Place, list[Place]]:
    """Of master and driver, and of two workers."""
    if network is None:
        return Place(LOOPBACK), [Place(address) for address in WORKERS]
    driver = Place(network.driver_address, network.driver_command)
    return driver, [Place(network.address(at), network.command(at)) for at in range(2)]


def free_port() -> int:
    """A port that nobody uses just now, here or in a new namespace."""
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        return int(found.getsockname()[1])


@contextmanager
def daemon(place: Place, log: Path, name: str, *arguments: str) -> Iterator[None]:
    """One of Spark's own daemons."""
    command = [*place.command, str(BIN / "spark-class"), f"org.apache.spark.deploy.{name.lower()}.{name}", *arguments]
    with (
        log.open("w") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=place.surroundings()) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


def wait_for(log: Path, text: str) -> None:
    """Until a log has a text."""
    deadline = time.monotonic() + 90
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)
