"""Ranks as processes of this machine, without Spark: for data that already lies as Parquet files."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from ecdctr.distributed.horovod_driver import loopback
from ecdctr.exceptions import ConfigError

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Machines:
    """Addresses of ranks that do not share one, such as network namespaces; their file system and processes are the driver's.

    Attributes:
        driver: Address at which the ranks reach the driver.
        interface: Name of the network interface that has a rank's address, the same for all.
        addresses: One per rank.
        commands: What stands before the command line of each rank and starts it there.
    """

    driver: str
    interface: str
    addresses: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]

    @classmethod
    def here(cls, ranks: int) -> "Machines":
        """All ranks beside the driver, on the loopback interface."""
        return cls("127.0.0.1", loopback(), ("localhost",) * ranks, ((),) * ranks)


def run_ranks(
    mailbox: Path,
    ranks: int,
    threads: int,
    stall_seconds: int,
    local_exchange: str,
    bind_to_cores: bool,
    env: dict[str, str],
    kill: threading.Event,
    machines: Machines | None = None,
) -> None:
    """Start rank processes that serve a mailbox, and return when all have ended.

    Args:
        mailbox: Folder of the mailbox.
        ranks: How many.
        threads: Threads that torch may use in each.
        stall_seconds: After so long without a sign of the driver a rank ends itself.
        local_exchange: As `rank_worker.serve` takes it.
        bind_to_cores: As well.
        env: Environment variables beside those of this process.
        kill: Ends the ranks when set.
        machines: Where the ranks run; None: here.

    Raises:
        ConfigError: As many machines as ranks were not given.
        RuntimeError: A rank ended with an exit code other than 0.
    """
    machines = machines or Machines.here(ranks)
    if not len(machines.addresses) == len(machines.commands) == ranks:
        found = f"{len(machines.addresses)} addresses and {len(machines.commands)} commands"
        raise ConfigError(f"{found} for {ranks} ranks: expected one of each per rank")
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
    from horovod.runner.http.http_server import RendezvousServer

    rendezvous = RendezvousServer(0)
    port = rendezvous.start()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        starts: dict[str, list[tuple[str, ...]]] = {}
        for address, start in zip(machines.addresses, machines.commands, strict=True):
            starts.setdefault(address, []).append(start)
        hosts = ",".join(f"{address}:{len(here)}" for address, here in starts.items())
        slots = get_host_assignments(parse_hosts(hosts), ranks)
        rendezvous.init(slots)
        common = os.environ | env | create_run_env_vars(machines.driver, [machines.interface], port)
        command = [
            sys.executable,
            "-m",
            "ecdctr.distributed.rank_worker",
            str(mailbox),
            str(threads),
            str(stall_seconds),
            local_exchange,
            str(int(bind_to_cores)),
        ]
        for slot in slots:
            start = starts[slot.hostname][slot.local_rank]
            own = {name: str(value) for name, value in (common | create_slot_env_vars(slot)).items()}
            # A session of its own, so that a Ctrl-C meant for the driver does not end the ranks before their checkpoint.
            processes.append(
                subprocess.Popen([*start, *command], env=own, stdin=subprocess.DEVNULL, start_new_session=True)
            )
        while any(process.poll() is None for process in processes) and not kill.wait(POLL_SECONDS):
            pass
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        rendezvous.stop()
    codes = [process.returncode for process in processes]
    if any(codes) and not kill.is_set():
        raise RuntimeError(f"ranks ended with exit codes {codes}")
