"""Which ranks still live, as the driver sees them."""

import contextlib
import os
import signal
from typing import Any

from ecdctr import processes
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
        """Whether a rank's process is known to have ended; of another machine or container only its silence tells."""
        return processes.has_ended(self._last.get(rank, {}).get("process")) is True

    def progress(self) -> dict[str, Any]:
        """Where rank 0 has last said that its task stands; empty when it has not."""
        progress: dict[str, Any] = self._last.get(0, {}).get("progress", {})
        return progress

    def kill(self) -> None:
        """End the ranks of this machine; frozen ones take no other signal."""
        for life in self._last.values():
            if processes.has_ended(life.get("process")) is False:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(life["process"]["pid"], signal.SIGKILL)
