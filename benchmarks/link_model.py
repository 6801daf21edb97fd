"""What the links between ranks add to a training step, fitted to runs of `benchmarks.links`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import nnls

from benchmarks.scale_model import EXCHANGES, Exchange, Workload, bytes_per_step

Run = dict[str, Any]


@dataclass(frozen=True)
class LinkConstants:
    """Fitted to measurements, or neutral where there are none.

    Attributes:
        wire: Bytes of a link's rate that a sent byte takes: headers, acknowledgements, gaps.
        crossings: How often in a step one message waits for another to cross from rank to rank, by exchange:
            whatever the number of ranks, and per rank beyond the first.
    """

    wire: float = 1.0
    crossings: Mapping[Exchange, tuple[float, float]] = field(default_factory=dict)

    def crossed(self, ranks: int, exchange: Exchange) -> float:
        """Crossings of a step that wait for one another."""
        fixed, each = self.crossings.get(exchange, (0.0, 0.0))
        return fixed + each * (ranks - 1) if ranks > 1 else 0.0


def link_seconds(
    constants: LinkConstants, work: Workload, ranks: int, exchange: Exchange, rate: float, delay: float
) -> float:
    """Seconds that links add to a step.

    Args:
        constants: As fitted.
        work: The workload.
        ranks: N.
        exchange: How tables are exchanged.
        rate: Bytes per second that a rank can send.
        delay: Seconds that a message takes from one rank to another, beside its bytes.
    """
    sent = sum(bytes_per_step(work, ranks, exchange).values())
    return constants.wire * sent / rate + constants.crossed(ranks, exchange) * delay


def rate_of(run: Run) -> float:
    """Bytes per second of a run's links; infinite where they were not limited."""
    mbit = run["link"]["mbit"]
    return np.inf if mbit is None else mbit * 1e6 / 8


def step_seconds(run: Run) -> float:
    """Of a step of a run, without its wait for input."""
    return float(sum(seconds for phase, seconds in run["phases"].items() if phase != "input"))


def fit_links(runs: Sequence[Run], ranks: int = 2) -> LinkConstants:
    """Constants by least squares.

    Args:
        runs: Of `benchmarks.links`.
        ranks: The rate's constant is fitted to runs of so many ranks alone; those of others are there to try it on.
    """
    pairs = [
        (sum(bytes_per_step(Workload(**run["work"]), ranks, run["exchange"]).values()) / rate_of(run), more)
        for run, more in beyond_unlimited(runs)
        if run["ranks"] == ranks
    ]
    squares = sum(seconds**2 for seconds, _ in pairs)
    wire = sum(seconds * more for seconds, more in pairs) / squares if pairs else 1.0
    counted = crossings(runs)
    lines = {}
    for exchange in EXCHANGES:
        points = [(at - 1, count) for (at, kind), count in counted.items() if kind == exchange]
        if points:
            rows = np.array([[1.0, others] for others, _ in points])
            (fixed, each), _ = nnls(rows, np.array([count for _, count in points]))
            lines[exchange] = (float(fixed), float(each))
    return LinkConstants(wire, lines)


def crossings(runs: Sequence[Run]) -> dict[tuple[int, Exchange], float]:
    """By number of ranks and exchange, by how many delays a step took longer where messages were delayed."""
    found: dict[tuple[int, Exchange], list[tuple[float, float]]] = {}
    for run, more in _beyond_undelayed(runs):
        points = found.setdefault((run["ranks"], run["exchange"]), [])
        points.append((run["link"]["delay_ms"] / 1000, more))
    return {
        key: sum(delay * more for delay, more in points) / sum(delay**2 for delay, _ in points)
        for key, points in found.items()
    }


def beyond_unlimited(runs: Sequence[Run]) -> list[tuple[Run, float]]:
    """Runs over limited links, and by how many seconds a step took longer than over unlimited ones."""
    free = {_key(run): run for run in runs if run["link"] == {"mbit": None, "delay_ms": None}}
    limited = [run for run in runs if run["link"]["mbit"] is not None and run["link"]["delay_ms"] is None]
    return [(run, step_seconds(run) - step_seconds(free[_key(run)])) for run in limited if _key(run) in free]


def _beyond_undelayed(runs: Sequence[Run]) -> list[tuple[Run, float]]:
    """The same of delayed links; the process that carries packets is part of both."""
    at_once = {_key(run): run for run in runs if run["link"]["delay_ms"] == 0}
    late = [run for run in runs if run["link"]["delay_ms"]]
    return [(run, step_seconds(run) - step_seconds(at_once[_key(run)])) for run in late if _key(run) in at_once]


def _key(run: Run) -> tuple[Any, ...]:
    return run["ranks"], run["exchange"], *(run["work"][name] for name in ("batch", "ids"))
