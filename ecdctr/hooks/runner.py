"""Find the configured hooks, and call them so that none of them can do harm unasked."""

import copy
import difflib
import logging
import uuid
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ecdctr.config.operations import HookConfig
from ecdctr.exceptions import ConfigError, EcdctrError
from ecdctr.hooks.protocol import (
    DayEvent,
    Event,
    FailureEvent,
    Hook,
    PromoteEvent,
    PublishEvent,
    QualityEvent,
    QuarantineEvent,
    TableEvent,
)
from ecdctr.hooks.shipped import SHIPPED

logger = logging.getLogger(__name__)

GROUP = "ecdctr.hooks"
METHODS: dict[type[Event], str] = {
    DayEvent: "before_day",
    QualityEvent: "after_quality",
    TableEvent: "after_table_commit",
    QuarantineEvent: "on_quarantine",
    PublishEvent: "after_publish",
    PromoteEvent: "after_promote",
    FailureEvent: "on_failure",
}


class HookError(EcdctrError):
    """A hook that is to fail its step has failed."""


class Hooks:
    """The hooks of one command.

    Args:
        configured: Hooks by name.
        given: Hooks made in Python; called after the configured ones.
        name: Of the configuration.
        warehouse: Folder of the tables.

    Raises:
        ConfigError: No hook has such a name, or it does not take these options.
    """

    def __init__(
        self,
        configured: Sequence[HookConfig] = (),
        given: Sequence[Hook] = (),
        name: str = "",
        warehouse: Path = Path(),
    ) -> None:
        self.common = {"name": name, "warehouse": str(warehouse), "run_id": str(uuid.uuid4())}
        self._hooks: list[tuple[str, Hook, bool]] = []
        for place, entry in enumerate(configured):
            hook = _make(entry, f"hooks.{place}", warehouse)
            fails = hook.fails_step if entry.on_error is None else entry.on_error == "fail"
            self._hooks.append((entry.name, hook, fails))
        self._hooks += [(type(hook).__name__, hook, hook.fails_step) for hook in given]

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def fire(self, kind: type[Event], **facts: Any) -> None:
        """Tell all hooks of a step.

        Raises:
            HookError: A hook failed that is to fail its step; those after it are not called.
        """
        if not self._hooks:
            return
        event, method = kind(**self.common, **facts), METHODS[kind]
        for name, hook, fails in self._hooks:
            try:
                # What one hook does to its event is seen neither by the next one nor by the job.
                getattr(hook, method)(copy.deepcopy(event))
            except (Exception, SystemExit) as error:
                told = f"hook {name!r} failed at {method}: {type(error).__name__}: {error}"
                if fails and kind is not FailureEvent:
                    raise HookError(told, hint="on_error: report in its configuration lets the job go on") from error
                logger.warning("%s", told)


NO_HOOKS = Hooks()


def _make(entry: HookConfig, where: str, warehouse: Path) -> Hook:
    installed = {point.name: point for point in entry_points(group=GROUP)}
    twice = sorted(SHIPPED.keys() & installed.keys())
    if twice:
        raise ConfigError(
            f"an installed package names its hook {twice[0]!r}, which is a shipped one's name",
            hint="rename its entry point",
        )
    factory: Callable[..., Any]
    if entry.name in SHIPPED:
        factory = SHIPPED[entry.name]
    elif entry.name in installed:
        factory = installed[entry.name].load()
    else:
        known = [*SHIPPED, *installed]
        near = difflib.get_close_matches(entry.name, known, n=1)
        raise ConfigError(
            f"{where}.name: there is no hook {entry.name!r}; known are {', '.join(known)}",
            hint=f"did you mean {near[0]!r}?"
            if near
            else f"a package offers one by an entry point of the group {GROUP}",
        )
    options = {
        key: value.replace("{warehouse}", str(warehouse)) if isinstance(value, str) else value
        for key, value in entry.options.items()
    }
    try:
        hook = factory(**options)
    except ValidationError as error:
        found = error.errors()[0]
        place = ".".join(map(str, found["loc"]))
        raise ConfigError(
            f"{where}.options.{place}: {found['msg']}", hint=f"options of {entry.name!r} are in docs/hooks.md"
        ) from error
    except TypeError as error:
        raise ConfigError(
            f"{where}: {entry.name!r} does not take these options: {error}", hint="see the hook's own page"
        ) from error
    if not isinstance(hook, Hook):
        raise ConfigError(
            f"{where}.name: {entry.name!r} makes a {type(hook).__name__}, not an ecdctr.hooks.Hook",
            hint="derive its class from ecdctr.hooks.Hook",
        )
    return hook
