"""Runs of the peers' benchmark as its JSON file has them, and which of them count."""

from typing import Any

OURS, ALONE, ONE_CORE = "ecdctr", "ecdctr-one-rank", "ecdctr-one-core"
# The benchmark's own rule: a run beside which others took more than this part of the machine's time does not count.
DISTURBED = 0.10

Run = dict[str, Any]


def is_clean(run: Run, cores: int) -> bool:
    """Whether a run ended and had the machine to itself."""
    return "e2e_s" in run and run["other_cpu_s"] <= DISTURBED * run["wall_s"] * cores
