"""What a user may call at the steps of a job: a typed protocol, found by entry points or given in Python."""

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
from ecdctr.hooks.runner import NO_HOOKS, HookError, Hooks

__all__ = [
    "NO_HOOKS",
    "DayEvent",
    "Event",
    "FailureEvent",
    "Hook",
    "HookError",
    "Hooks",
    "PromoteEvent",
    "PublishEvent",
    "QualityEvent",
    "QuarantineEvent",
    "TableEvent",
]
