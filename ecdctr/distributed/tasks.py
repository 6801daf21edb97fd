"""What ranks can be asked to do: named functions, JSON in and JSON out."""

import importlib
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ecdctr.exceptions import ConfigError

if TYPE_CHECKING:
    from ecdctr.distributed.collective import Collective

RankTask = Callable[["Collective", dict[str, Any]], dict[str, Any]]

# Fixed here, so that a message can only ever name code that is meant to be run by ranks.
MODULES = {
    "train_level": "ecdctr.training.rank_tasks",
    "score_published": "ecdctr.training.rank_tasks",
    "probe": "ecdctr.distributed.probe",
}
_registered: dict[str, RankTask] = {}


@dataclass(frozen=True)
class Signals:
    """How a running task hears from and speaks to the driver.

    Attributes:
        stop_requested: Whether the driver wants the task to stop at the next step; cheap enough to ask at every step.
        report: Tells where the task stands, for example step, steps, loss; may be called at every step.
    """

    stop_requested: Callable[[], bool] = lambda: False
    report: Callable[[dict[str, Any]], None] = lambda progress: None


_signals: ContextVar[Signals] = ContextVar("signals")


def current_signals() -> Signals:
    """The signals of the task that is running on this rank; deaf and mute ones outside a task."""
    return _signals.get(Signals())


def rank_task(name: str) -> Callable[[RankTask], RankTask]:
    """Register a function under a name that `MODULES` lists for its module."""

    def register(function: RankTask) -> RankTask:
        _registered[name] = function
        return function

    return register


def find_task(name: str) -> RankTask:
    """The function registered under a name; its module is imported when first asked for.

    Raises:
        ConfigError: No such task.
    """
    if name not in _registered:
        if name not in MODULES:
            raise ConfigError(f"ranks know no task {name!r}: expected one of {sorted(MODULES)}")
        importlib.import_module(MODULES[name])
    return _registered[name]


def run_task(
    name: str, collective: "Collective", payload: dict[str, Any], signals: Signals | None = None
) -> dict[str, Any]:
    """Run a task on this rank; `current_signals` are those given while it runs."""
    task = find_task(name)
    token = _signals.set(signals or Signals())
    try:
        return task(collective, payload)
    finally:
        _signals.reset(token)
