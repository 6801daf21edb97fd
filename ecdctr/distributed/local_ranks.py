"""Ranks as processes of this machine, without Spark: for data that already lies as Parquet files."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from ecdctr.distributed.horovod_driver import loopback

POLL_SECONDS = 0.05


def run_ranks(
    mailbox: Path,
    ranks: int,
    threads: int,
    stall_seconds: int,
    local_exchange: str,
    env: dict[str, str],
    kill: threading.Event,
) -> None:
    """Start rank processes that serve a mailbox, and return when all have ended.

    Args:
        mailbox: Folder of the mailbox.
        ranks: How many.
        threads: Threads that torch may use in each.
        stall_seconds: After so long without a sign of the driver a rank ends itself.
        local_exchange: As `rank_worker.serve` takes it.
        env: Environment variables beside those of this process.
        kill: Ends the ranks when set.

    Raises:
        RuntimeError: A rank ended with an exit code other than 0.
    """
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
    from horovod.runner.http.http_server import RendezvousServer

    rendezvous = RendezvousServer(0)
    port = rendezvous.start()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        slots = get_host_assignments(parse_hosts(f"localhost:{ranks}"), ranks)
        rendezvous.init(slots)
        common = os.environ | env | create_run_env_vars("127.0.0.1", [loopback()], port)
        command = [
            sys.executable,
            "-m",
            "ecdctr.distributed.rank_worker",
            str(mailbox),
            str(threads),
            str(stall_seconds),
            local_exchange,
        ]
        for slot in slots:
            own = {name: str(value) for name, value in (common | create_slot_env_vars(slot)).items()}
            # A session of its own, so that a Ctrl-C meant for the driver does not end the ranks before their checkpoint.
            processes.append(subprocess.Popen(command, env=own, stdin=subprocess.DEVNULL, start_new_session=True))
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
