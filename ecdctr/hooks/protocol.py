"""The steps at which hooks are called, and what they are told."""

import dataclasses
import datetime as dt
from typing import Any, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """What every hook is told.

    Attributes:
        name: Of the configuration.
        warehouse: Folder of the tables.
        run_id: The same for all events of one command.
    """

    name: str
    warehouse: str
    run_id: str

    def tree(self) -> dict[str, Any]:
        """As JSON-ready values, `event` naming the kind; days and moments in ISO form."""
        tree = {"event": type(self).__name__.removesuffix("Event").lower()} | dataclasses.asdict(self)
        return {key: _plain(value) for key, value in tree.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DayEvent(Event):
    """A day is about to be prepared; `rows` are those of the logs, by domain."""

    day: dt.date
    rows: dict[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityEvent(Event):
    """The checks of the days to prepare are done, and nothing is written yet.

    Attributes:
        outcomes: One per domain, day and check: domain, event_date, check, subject, value, expected, outcome.
    """

    outcomes: tuple[dict[str, Any], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableEvent(Event):
    """A table has a new version; `since` and `until` are the half-open span of days written, where it has days."""

    job: Literal["prepare", "publish"]
    table: str
    version: int
    rows: int
    inputs: tuple[str, ...]
    since: dt.date | None = None
    until: dt.date | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuarantineEvent(Event):
    """Rows were put aside."""

    rows: int
    reasons: dict[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishEvent(Event):
    """A model version stands in the ledger."""

    version: str
    level: str
    arm: str
    date: dt.date
    parents: tuple[str, ...]
    tables: dict[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromoteEvent(Event):
    """Another version serves than `before`, by `models promote` or `rollback`; None: no version was promoted before."""

    version: str
    arm: str
    date: dt.date
    before: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FailureEvent(Event):
    """A command ends with an error."""

    error: str
    message: str


class Hook:
    """Base of all hooks: override what you want to hear of; everything else does nothing.

    A hook runs in the driver, in the order of the configuration. An exception is reported and the job goes on, unless
    `on_error: fail` is configured, or the hook's own `fails_step` says so.
    """

    fails_step = False

    def before_day(self, event: DayEvent) -> None:
        """A day is about to be prepared."""

    def after_quality(self, event: QualityEvent) -> None:
        """The checks of the days are done, and nothing is written yet."""

    def after_table_commit(self, event: TableEvent) -> None:
        """A table has a new version."""

    def on_quarantine(self, event: QuarantineEvent) -> None:
        """Rows were put aside."""

    def after_publish(self, event: PublishEvent) -> None:
        """A model version is published."""

    def after_promote(self, event: PromoteEvent) -> None:
        """Another version serves."""

    def on_failure(self, event: FailureEvent) -> None:
        """A command ends with an error."""


def _plain(value: Any) -> Any:
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
