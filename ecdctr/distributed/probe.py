"""A task that only exercises the exchange: what `doctor` runs, and what measures the ranks."""

import os
import socket
import time
from typing import Any

import torch

from ecdctr.distributed.collective import Collective
from ecdctr.distributed.tasks import current_signals, rank_task
from ecdctr.exceptions import IntegrityError, TemporaryError


@rank_task("probe")
def probe(collective: Collective, payload: dict[str, Any]) -> dict[str, Any]:
    """Reduce a small tensor over all ranks, some times over.

    Args:
        collective: The ranks.
        payload: `repeat` (default 1): how many all-reduces; `floats` (default 256): values in each;
            `pause` (default 0): seconds between two.

    Returns:
        `sum` of rank + 1 over ranks, `host`, `pid`, `microseconds` of one all-reduce, `threads` of torch, and `carried_by`: the
        class of the collective.

    Raises:
        IntegrityError: A wrong sum came back.
        TemporaryError: The driver asked for a stop.
    """
    repeat, floats, pause = (
        int(payload.get("repeat", 1)),
        int(payload.get("floats", 256)),
        float(payload.get("pause", 0)),
    )
    signals = current_signals()
    expected = float(sum(range(1, collective.size + 1)))
    value, spent = torch.zeros(floats), 0.0
    for step in range(repeat):
        if collective.any(signals.stop_requested()):
            raise TemporaryError(f"stopped at step {step} of {repeat} as asked", hint="call again")
        value.fill_(collective.rank + 1)
        since = time.perf_counter()
        collective.all_reduce_(value)
        spent += time.perf_counter() - since
        if not bool((value == expected).all()):
            raise IntegrityError(f"an all-reduce over {collective.size} ranks gave {value[0].item()}, not {expected}")
        signals.report({"step": step + 1, "steps": repeat})
        time.sleep(pause)
    return {
        "sum": expected,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "microseconds": spent / repeat * 1e6,
        "threads": torch.get_num_threads(),
        "carried_by": type(collective).__name__,
    }
