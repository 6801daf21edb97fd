"""Which ranks still live, as the driver sees them."""

import socket
from typing import Any

import psutil

from ecdctr.distributed.mailbox import Mailbox, Pulse, life_name


class Lives:
    """What ranks show of themselves in the mailbox, and, on this machine, their processes.

    Args:
        mailbox: The mailbox.
        ranks: How many ranks there are.
    """

    def __init__(self, mailbox: Mailbox, ranks: int) -> None:
        self._mailbox, self._ranks = mailbox, ranks
        self._pulses = [Pulse() for _ in range(ranks)]
        self._last: dict[int, dict[str, Any]] = {}
        self._silent = [0.0] * ranks

    def look(self) -> None:
        """Read anew what the ranks show."""
        for rank in range(self._ranks):
            life = self._mailbox.read(life_name(rank))
            if life is not None:
                self._last[rank] = life
            # A sign that can no longer be read is silence, too.
            if rank in self._last:
                self._silent[rank] = self._pulses[rank].see(self._last[rank]["beat"])

    def silence(self, rank: int) -> float:
        """For how many seconds a rank has given no sign; 0 while it has never given one."""
        return self._silent[rank]

    def gone(self, rank: int) -> bool:
        """Whether a rank's process is known to have ended; of another machine only its silence tells."""
        life = self._last.get(rank)
        return life is not None and _is_here(life) and _process(life) is None

    def progress(self) -> dict[str, Any]:
        """Where rank 0 has last said that its task stands; empty when it has not."""
        progress: dict[str, Any] = self._last.get(0, {}).get("progress", {})
        return progress

    def kill(self) -> None:
        """End the ranks of this machine; frozen ones take no other signal."""
        for life in self._last.values():
            process = _process(life) if _is_here(life) else None
            if process is not None:
                process.kill()


def _is_here(life: dict[str, Any]) -> bool:
    return bool(life["host"] == socket.gethostname())


def _process(life: dict[str, Any]) -> psutil.Process | None:
    """The rank's process; None when it has ended, also where its number was given away again."""
    try:
        process = psutil.Process(life["pid"])
        alive = abs(process.create_time() - life["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if alive else None
