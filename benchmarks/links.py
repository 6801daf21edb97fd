"""Measures a training whose ranks reach one another over limited links only: `make bench-links`.

Each rank has a network namespace and an address of its own. Links are limited by `tc`, in both directions, or delayed. The
runs are kept as JSON, from which `benchmarks.scale` fits what a link adds to a step and writes its part of docs/scale.md.
"""

import argparse
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.namespaces import Network, refusal
from benchmarks.scale import DIM, FIELDS, SIZES, STATE, level, one_run, write_log
from benchmarks.scale_model import EXCHANGES, Exchange, Workload
from ecdctr.exceptions import EcdctrError

RANKS = (2, 4)
RATES = (1000.0, 200.0)
DELAYS = (0.0, 2.0, 4.0)
# So few bytes that all of an exchange is on its way at once.
DELAY_SIZES = ((100_000, 64),)
KINDS = ("runs", "bytes", "rounds")
SHORT = 5
"""Steps of the shorter of two runs whose difference in bytes is that of their steps."""

logger = logging.getLogger(__name__)


def main() -> int:
    """Measure, and keep the runs as JSON; exit code 2 where the machine gives no such links."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    parser.add_argument("--mbit", type=float, nargs="*", default=RATES, help="rates, beside links that are not limited")
    parser.add_argument(
        "--delay-ms", type=float, nargs="*", default=DELAYS, help="of links that are not limited; 0 is measured as well"
    )
    parser.add_argument("--steps", type=int, default=24, help="of each run")
    parser.add_argument(
        "--repeat", type=int, default=2, help="over links without delay; the run with the shortest steps is kept"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/links.json"))
    parser.add_argument("--append", action="store_true", help="keep the runs of other numbers of ranks")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    # As Ctrl-C does, so that what was made is removed.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    why = refusal()
    if why is not None:
        print(f"bench-links: {why}", file=sys.stderr)
        return 2
    delays: list[float] = sorted({0.0, *arguments.delay_ms}) if arguments.delay_ms else []
    left_out = refusal(0.0) if delays else None
    if left_out is not None:
        logger.info("delayed links are left out: %s", left_out)
        delays = []
    found: dict[str, Any] = {kind: [] for kind in KINDS}
    if arguments.append and arguments.runs.exists():
        found = json.loads(arguments.runs.read_text(encoding="utf-8"))
    try:
        for ranks in arguments.ranks:
            before = os.getloadavg()[0]
            measured = [measure(ranks, None, [None, *arguments.mbit], SIZES, arguments.steps, arguments.repeat)]
            measured += [measure(ranks, delay, [None], DELAY_SIZES, arguments.steps, 1) for delay in delays]
            for kind in KINDS:
                kept = [one for one in found[kind] if one["ranks"] != ranks]
                found[kind] = kept + [one for part in measured for one in part[kind]]
            found["load"] = found.get("load", {}) | {str(ranks): [before, os.getloadavg()[0]]}
    except EcdctrError as error:
        print(f"bench-links: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("bench-links: stopped; nothing is kept of this run, and its namespaces are removed", file=sys.stderr)
        return 130
    found["left_out"] = left_out
    arguments.runs.parent.mkdir(parents=True, exist_ok=True)
    arguments.runs.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


def measure(
    ranks: int,
    delay_ms: float | None,
    rates: Sequence[float | None],
    sizes: Sequence[tuple[int, int]],
    steps: int,
    repeat: int,
) -> dict[str, list[dict[str, Any]]]:
    """Every run of so many ranks over links of one delay.

    Args:
        ranks: Each in a namespace of its own.
        delay_ms: As of `Network`.
        rates: Megabits per second, one after the other. Where there is neither limit nor delay, bytes are counted.
        sizes: Ids, and rows of a step on each rank.
        steps: Of each run.
        repeat: How often; the run with the shortest steps counts.

    Returns:
        `runs` as of `benchmarks.scale`, with their `link`; `bytes`: what a rank sent in a step by the counters of its
        interface; `rounds`: microseconds of one all-reduce of 256 floats, and bytes that a rank sends in a second without work.
    """
    from ecdctr.distributed.launch import RankSession

    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    names = (str(number) for number in count(1))
    with tempfile.TemporaryDirectory(prefix="ecdctr-links-") as folder, Network(ranks, delay_ms) as network:
        root = Path(folder)
        logs = {
            (ids, wanted): write_log(root / f"log-{ids}-{wanted}", wanted * batch * ranks, ids)
            for ids, batch in sizes
            for wanted in (steps, SHORT)
        }

        def run(work: Workload, exchange: Exchange, wanted: int) -> dict[str, Any]:
            sent = [network.sent(rank) for rank in range(ranks)]
            task = level(root, logs[work.ids, wanted], work, ranks, exchange, next(names))
            done = one_run(session.call("train_level", task), work, ranks, exchange)
            return done | {"sent": sum(network.sent(rank) - was for rank, was in enumerate(sent)) / ranks}

        with (
            network.inside(),
            RankSession(
                None, ranks, root / "mailbox", threads_per_rank=1, machines=network.machines(), local_exchange="horovod"
            ) as session,
        ):
            # The first one imports what a training needs.
            run(Workload(sizes[0][1], FIELDS, DIM, STATE, 0, sizes[0][0]), EXCHANGES[0], SHORT)
            for rate in rates:
                network.limit(rate)
                link = {"mbit": rate, "delay_ms": delay_ms}
                probe = session.call("probe", {"repeat": 100})[0]["microseconds"]
                sent = network.sent(0)
                time.sleep(1)
                idle = network.sent(0) - sent
                found["rounds"].append({"ranks": ranks, "link": link, "microseconds": probe, "idle_bytes": idle})
                for ids, batch in sizes:
                    work = Workload(batch, FIELDS, DIM, STATE, 0, ids)
                    for exchange in EXCHANGES:
                        logger.info("%d ranks, %s, %d ids, %s", ranks, link, ids, exchange)
                        repeated = [run(work, exchange, steps) for _ in range(repeat)]
                        best = min(repeated, key=lambda one: sum(one["phases"].values()))
                        found["runs"].append(best | {"link": link})
                        if rate is None and delay_ms is None:
                            short = run(work, exchange, SHORT)
                            each = (best["sent"] - short["sent"]) / (best["steps"] - short["steps"])
                            found["bytes"].append(
                                {key: best[key] for key in ("ranks", "exchange", "work")} | {"bytes": each}
                            )
    return found


if __name__ == "__main__":
    sys.exit(main())
