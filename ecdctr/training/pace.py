"""How fast a training runs once it runs."""

import time

WARM_STEPS = 10
"""First steps that are left out: they fill caches and queues."""


class Pace:
    """Times the steps of one run of a task, from its first step or from where it was resumed."""

    def __init__(self) -> None:
        self._steps = 0
        self._since = self._last = time.perf_counter()

    def tick(self) -> None:
        """Take note of a step that has just ended."""
        self._steps += 1
        self._last = time.perf_counter()
        if self._steps <= WARM_STEPS:
            self._since = self._last

    def rate(self, rows_per_step: float) -> float | None:
        """Rows per second over all ranks, waits for input included; None of a run too short to tell."""
        if self._steps <= WARM_STEPS:
            return None
        return (self._steps - WARM_STEPS) * rows_per_step / (self._last - self._since)
