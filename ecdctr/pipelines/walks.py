"""Walks of many arms over the same days, one after the other or side by side; what they share is trained once."""

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ecdctr import cores
from ecdctr.config import Config
from ecdctr.distributed.stop_signals import stop_on_signal
from ecdctr.exceptions import InputError, TemporaryError
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.daily import Walk, walk
from ecdctr.pipelines.levels import BASE
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.workspace import Workspace
from ecdctr.report.wording import duration

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
Window = tuple[dt.date, dt.date]
Shared = tuple[str, str, int, str]
"""Level, name, seed and digest: what makes versions one and the same."""
MakePublisher = Callable[[Workspace], Publisher]


@dataclass(frozen=True)
class Outing:
    """One walk.

    Attributes:
        config: What is walked: one arm, one seed.
        label: For the log.
    """

    config: Config
    label: str


def lanes_for(opened: Workspace, asked: int | None) -> int:
    """How many walks run at once.

    Args:
        opened: Its configuration says what one walk occupies: ranks times threads.
        asked: None: as many as the cores hold where Spark runs on this machine, else one.

    Raises:
        InputError: Fewer than one, or several where Spark's tasks, and with them the ranks, run elsewhere.
    """
    config, local = opened.config, opened.on_one_machine
    if asked is None:
        return max(1, cores.count() // (config.ranks * opened.threads_of_rank)) if local else 1
    if asked < 1:
        raise InputError(f"{asked} walks at once were asked for", hint="give 1 or more")
    if asked > 1 and not local:
        raise InputError(
            f"{asked} walks at once were asked for: they run on this machine, but Spark's tasks run on others",
            hint="use --parallel 1, whose ranks run on the cluster",
        )
    return asked


def waits_for(outings: Sequence[Outing]) -> list[set[int]]:
    """For each walk the earlier ones that train something which it reads as well; it begins when they have ended."""
    first: dict[Shared, int] = {}
    return [
        {first.setdefault(shared, place) for shared in _trained_by(outing.config)} - {place}
        for place, outing in enumerate(outings)
    ]


def _trained_by(config: Config) -> Iterator[Shared]:
    def shared(level: str, name: str) -> Shared:
        return level, name, config.seed, config.model_digest(level)

    for arm in (ARMS[name] for name in config.arms):
        if arm.history:
            yield shared("tpm", BASE)
        if arm.needs_cpm:
            yield shared("cpm", arm.twin(config).name)
        yield shared("actr", arm.name)


def run_walks(
    opened: Workspace, outings: Sequence[Outing], window: Window, lanes: int = 1, publisher: MakePublisher = Publisher
) -> None:
    """Walk all; the versions do not depend on `lanes`, bit for bit.

    Side by side, each lane is a thread with ranks of its own; a walk is taken up in the order given, as soon as those that
    train its parents have ended. The first error ends all: other lanes stop at their next step, with a checkpoint. So does a
    first SIGTERM or Ctrl-C; a second one ends the ranks at once.

    Args:
        opened: On prepared tables.
        outings: What to walk.
        window: The days.
        lanes: How many at once.
        publisher: Makes what takes the versions of one walk.

    Raises:
        TemporaryError: A stop was asked for.
    """
    tally = _Tally(len(outings), lanes)
    if lanes > 1 and len(outings) > 1:
        _Lanes(opened, outings, window, min(lanes, len(outings)), publisher, tally).run()
        return
    for outing in outings:
        since = time.perf_counter()
        with opened.using(outing.config):
            tally.add(outing, walk(opened, *window, publisher=publisher(opened)), time.perf_counter() - since)


class _Tally:
    """Says after each walk how many are left and about how long they take."""

    def __init__(self, walks: int, lanes: int) -> None:
        self.walks, self.lanes = walks, lanes
        self.done, self.trained, self.spent = 0, 0, 0.0

    def add(self, outing: Outing, done: Walk, seconds: float) -> None:
        self.done += 1
        if not any(done.trained.values()):
            logger.info("%s: all there already", outing.label)
            return
        self.trained, self.spent = self.trained + 1, self.spent + seconds
        left = self.spent / self.trained * (self.walks - self.done) / self.lanes
        logger.info(
            "%s: walked in %s; %d of %d walks done, about %s left",
            outing.label, duration(seconds), self.done, self.walks, duration(left),
        )  # fmt: skip


class _Lanes:
    def __init__(
        self,
        opened: Workspace,
        outings: Sequence[Outing],
        window: Window,
        lanes: int,
        publisher: MakePublisher,
        tally: _Tally,
    ) -> None:
        self.outings, self.window, self.publisher, self.tally = outings, window, publisher, tally
        self._waits = waits_for(outings)
        self._left = list(range(len(outings)))
        self._ended: set[int] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._error: BaseException | None = None
        self._workspaces = [opened.beside(number) for number in range(lanes)]

    def run(self) -> None:
        threads = [
            threading.Thread(target=self._serve, args=(lane,), name=f"walks-{number}")
            for number, lane in enumerate(self._workspaces)
        ]
        with stop_on_signal(lambda: self._stopping, self._stop, "all walks stop at their next step"):
            try:
                for thread in threads:
                    thread.start()
                while any(thread.is_alive() for thread in threads):
                    time.sleep(LOOK_SECONDS)
            except BaseException:
                self._stop()
                for lane in self._workspaces:
                    lane.abort()
                for thread in threads:
                    if thread.ident is not None:
                        thread.join()
                raise
        if self._error is not None:
            raise self._error
        if len(self._ended) < len(self.outings):
            raise TemporaryError("stopped as asked, between two walks", hint="call again to go on")

    def _serve(self, lane: Workspace) -> None:
        try:
            with lane:
                while (place := self._take()) is not None:
                    outing, since = self.outings[place], time.perf_counter()
                    with lane.using(outing.config):
                        done = walk(lane, *self.window, publisher=self.publisher(lane))
                    with self._changed:
                        self._ended.add(place)
                        self.tally.add(outing, done, time.perf_counter() - since)
                        self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
            self._stop()

    def _take(self) -> int | None:
        """The first walk whose parents are there, waited for; None: nothing is left to do."""
        with self._changed:
            while self._left and not self._stopping:
                ready = [place for place in self._left if self._waits[place] <= self._ended]
                if ready:
                    self._left.remove(ready[0])
                    return ready[0]
                self._changed.wait()
            return None

    def _stop(self) -> None:
        """Let no walk begin, and those that run stop at their next step."""
        # No lock: a signal may come while the main thread holds it.
        self._stopping = True
        for lane in self._workspaces:
            lane.stop()
        threading.Thread(target=self._wake, daemon=True).start()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
