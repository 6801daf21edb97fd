"""Whether a Spark application can hold ranks: slots, retries, and how its machines reach one another."""

import re
from collections.abc import Callable

from ecdctr import cores
from ecdctr.exceptions import ConfigError

_LOCAL = re.compile(r"local(?:\[(\d+|\*)(?:,\s*\d+)?\])?")
_LOCAL_CLUSTER = re.compile(r"local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,\s*\d+\s*\]")

# A second attempt of a dead rank's Spark task, or a copy of a slow one, would knock at a ring that is closed.
_REQUIRED = {
    "spark.task.maxFailures": ("1", "4"),
    "spark.speculation": ("false", "false"),
    "spark.dynamicAllocation.enabled": ("false", "false"),
}


def is_local(master: str) -> bool:
    """Whether driver and tasks share one machine, so that the loopback interface reaches all of them."""
    return master.startswith("local")


def check_spark(conf: Callable[[str, str], str | None], ranks: int) -> None:
    """Refuse a Spark application in which ranks would wait for ever or be started twice.

    Args:
        conf: Value of a Spark option, or the default given.
        ranks: Ranks to be started; each holds one task slot for as long as the session lives.

    Raises:
        ConfigError: Too few slots, or an option that has Spark start a task again.
    """
    master = conf("spark.master", "") or ""
    slots = _slots(master)
    cpus = int(conf("spark.task.cpus", "1") or 1)
    if slots is not None and slots // cpus < ranks + 1:
        raise ConfigError(
            f"Spark master {master!r} runs {slots // cpus} tasks at a time: {ranks} ranks hold {ranks} of them while "
            f"they wait, and Spark's own jobs need one more, so expected at least {ranks + 1}",
            hint=f"set spark.master to local[{(ranks + 1) * cpus}] or higher, or lower ranks",
        )
    for option, (expected, default) in _REQUIRED.items():
        # A local master does not read maxFailures: it tries once unless its own name says otherwise.
        if option == "spark.task.maxFailures" and _LOCAL.fullmatch(master):
            continue
        found = (conf(option, default) or default).lower()
        if found != expected:
            raise ConfigError(
                f"Spark option {option} is {found}: training needs {expected}, since a rank that Spark starts again "
                "cannot join ranks that are already training",
                hint=f"start Spark with --conf {option}={expected}",
            )


def _slots(master: str) -> int | None:
    """Task slots that a master's name tells; None for a cluster, which grants them as it can."""
    if found := _LOCAL.fullmatch(master):
        return cores.count() if found[1] == "*" else int(found[1] or 1)
    if found := _LOCAL_CLUSTER.fullmatch(master):
        return int(found[1]) * int(found[2])
    return None
