"""One rank in this process, behind the interface of `RankSession`: for tests and notebooks."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ecdctr.distributed.failures import jsonable
from ecdctr.distributed.single import SingleProcess
from ecdctr.distributed.tasks import Signals, run_task


class InlineSession:
    """A session that starts nothing: tasks run in the caller's thread, and their errors are raised as they are."""

    ranks = 1

    def __init__(self) -> None:
        self.startup: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Nothing to start."""

    def call(
        self, name: str, payload: dict[str, Any], on_progress: Callable[[dict[str, Any]], None] | None = None
    ) -> list[dict[str, Any]]:
        """Run a task; see `RankSession.call`."""
        signals = Signals(report=on_progress) if on_progress else Signals()
        return [jsonable(run_task(name, SingleProcess(), payload, signals), name)]

    def close(self) -> None:
        """Nothing to end."""
