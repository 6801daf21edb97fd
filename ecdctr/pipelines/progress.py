"""Progress for people: a bar on a terminal, one line per level in a log."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)


class ProgressView:
    """Bars on stderr while it is a terminal; silent otherwise."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        if sys.stderr.isatty():
            self._bars = Progress(
                TextColumn("{task.description:<42}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._bars.start()

    @contextmanager
    def level(self, label: str) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Yield a function that takes the ranks' progress: step, steps, loss, samples_per_second."""
        if self._bars is None:
            yield lambda progress: None
            return
        bars, task = self._bars, self._bars.add_task(label, total=None, note="")

        def show(progress: dict[str, Any]) -> None:
            note = f"loss {progress['loss']:.4f} · {progress['samples_per_second']:,.0f} rows/s"
            bars.update(task, completed=progress["step"], total=progress["steps"], note=note)

        try:
            yield show
        finally:
            bars.remove_task(task)

    def close(self) -> None:
        """Take the bars away."""
        if self._bars is not None:
            self._bars.stop()
