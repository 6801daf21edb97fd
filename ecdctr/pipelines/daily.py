"""`run`: every step that is due, level by level, each by its own clock; goes on where it stopped."""

import datetime as dt
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from ecdctr.config import Config
from ecdctr.exceptions import InputError, NotReadyError
from ecdctr.pipelines.arms import ARMS, twins
from ecdctr.pipelines.clock import DAY, days, is_due, snapshot_dates
from ecdctr.pipelines.levels import BASE, Levels
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.workspace import Workspace

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 20.0


@dataclass
class Walk:
    """What a walk over days has done.

    Attributes:
        since: First walked day.
        until: The day after the last walked one.
        trained: How many versions were trained, by level.
        seconds: Wall time by level, start-up of the ranks left out.
    """

    since: dt.date
    until: dt.date
    trained: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("tpm", "cpm", "actr"), 0))
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("tpm", "cpm", "actr"), 0.0))


def walk_window(
    config: Config, workspace: Workspace, since: dt.date | None, until: dt.date | None
) -> tuple[dt.date, dt.date]:
    """The days to walk: as asked, by default the last `walk_days` of the ad log.

    Raises:
        InputError: A window without a day.
        NotReadyError: No ad samples are prepared.
    """
    ad_days = sorted({str(file.event_date) for file in workspace.pinned("ad_samples").files})
    if not ad_days:
        raise NotReadyError("ad_samples has no rows", hint="check dataset.ads in the config, then ecdctr prepare")
    until = until or dt.date.fromisoformat(ad_days[-1]) + DAY
    since = since or max(until - config.walk_days * DAY, dt.date.fromisoformat(ad_days[0]) + DAY)
    if since >= until:
        raise InputError(f"the window [{since}, {until}) has no day", hint="--from must lie before --until")
    return since, until


def walk(workspace: Workspace, since: dt.date, until: dt.date, publisher: Publisher | None = None) -> Walk:
    """Train what is due on each day of the window, and score each day with the model that has not seen it.

    A model that was published before all rows of its day were there scores them now.

    Args:
        workspace: Opened on prepared tables.
        since: First day to walk.
        until: The day after the last one.
        publisher: Takes what was trained; by default the workspace's own ledger.

    Raises:
        NotReadyError: The tables are not prepared up to the last day.
    """
    workspace.refuse_unprepared(until - DAY)
    publisher = publisher or Publisher(workspace)
    steps = _Steps(workspace, publisher, Walk(since, until))
    steps.score_late(since, until)
    flushed = time.monotonic()
    for date in days(since, until):
        steps.day(date)
        if time.monotonic() - flushed > FLUSH_SECONDS:
            publisher.flush()
            flushed = time.monotonic()
    publisher.flush()
    return steps.walk


class _Steps:
    def __init__(self, workspace: Workspace, publisher: Publisher, walk: Walk) -> None:
        self.config = workspace.config
        self.workspace = workspace
        self.publisher = publisher
        self.levels = Levels(workspace, publisher)
        self.walk = walk
        self.arms = [ARMS[name] for name in self.config.arms]
        self.first_day = workspace.first_day("natural_samples")
        self.ad_days = {file.event_date for file in workspace.pinned("ad_samples").files}

    def day(self, date: dt.date) -> None:
        if any(arm.history for arm in self.arms):
            tpm = self.config.levels.tpm
            for snapshot in snapshot_dates(date, tpm.every, tpm.snapshots, self._done("tpm", BASE), self.first_day):
                self._timed("tpm", partial(self.levels.tpm, snapshot))
        for twin in twins(self.arms, self.config):
            if is_due(date, twin.every, self._done("cpm", twin.name)):
                self._timed("cpm", partial(self.levels.cpm, date, twin))
        for arm in self.arms:
            if date not in self._done("actr", arm.name):
                self._timed("actr", partial(self.levels.actr, date, arm, score=date in self.ad_days))

    def score_late(self, since: dt.date, until: dt.date) -> None:
        for arm in self.arms:
            for entry in self.publisher.unscored(arm.name, since, until - DAY):
                if entry.date >= since:
                    self._seconds("actr", partial(self.levels.score, entry))

    def _done(self, level: str, arm: str) -> list[dt.date]:
        return [entry.date for entry in self.publisher.versions(level, arm)]

    def _timed(self, level: str, step: Callable[[], object]) -> None:
        self._seconds(level, step)
        self.walk.trained[level] += 1

    def _seconds(self, level: str, step: Callable[[], object]) -> None:
        since, startup = time.perf_counter(), sum(self.workspace.startup.values())
        step()
        started = sum(self.workspace.startup.values()) - startup
        self.walk.seconds[level] += time.perf_counter() - since - started
