"""Which cores a rank runs on, where the ranks of a machine take all of it."""

import logging
import os
from collections.abc import Sequence

from ecdctr import cores

logger = logging.getLogger(__name__)


def own_cores(allowed: Sequence[int], place: int, ranks: int, threads: int) -> Sequence[int]:
    """The cores for one of several ranks of a machine.

    Left to itself the system moves ranks about, now and then two onto one core while another is free; their caches are cold
    after each move, and all ranks wait for the one that was moved. Where the ranks' threads are as many as the cores, each
    rank has its own. Where they are fewer the rest may be busy with something else, of which the system knows
    more, and where they are more, cores have to be shared: then all may run everywhere.

    Args:
        allowed: Numbers of the cores that this process may run on.
        place: The rank's number among those of its machine.
        ranks: How many ranks the machine has.
        threads: Of each rank.

    Returns:
        Neighbouring ones, which share caches and memory where not all do; all of them where the ranks share the cores.
    """
    if ranks == 1 or ranks * threads != len(allowed):
        return allowed
    return allowed[place * threads : (place + 1) * threads]


def bind(place: int, ranks: int, threads: int) -> None:
    """Keep the calling thread, and all that it starts, to the cores of a rank; see `own_cores`."""
    allowed = cores.allowed()
    found = own_cores(allowed, place, ranks, threads)
    # A quota of time is no set of cores: ranks kept to some of them would wait beside idle ones.
    if found == allowed or cores.count() < len(allowed):
        return
    try:
        os.sched_setaffinity(0, found)
    except OSError as error:
        logger.info("this rank is left to run on every core: %s", error)
