"""SIGTERM and Ctrl-C: as the end of a command, or as a wish to stop at the next step and a second one as an order."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """A handler that raises KeyboardInterrupt for SIGTERM as for Ctrl-C, and knows later that it did.

    Attributes:
        asked: Whether a signal came, also one that was taken as a wish to stop.
    """

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take one signal."""
        self.asked = True
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within a block, SIGTERM and Ctrl-C end the main thread's work by KeyboardInterrupt; elsewhere nothing is changed."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    with _handled(interruption):
        yield interruption


@contextmanager
def stop_on_signal(asked: Callable[[], bool], stop: Callable[[], None], told: str) -> Iterator[None]:
    """Within a block, turn a first SIGTERM or Ctrl-C into a wish to stop; a second one is a KeyboardInterrupt.

    Outside the main thread, where Python gives no signals, nothing is changed.

    Args:
        asked: Whether a stop was asked for already.
        stop: Asks for one, so that `asked` is true from its first statement on: the second signal may come within it.
        told: What the log says then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if isinstance(outer, Interruption):
            outer.asked = True
        if asked():
            raise KeyboardInterrupt
        stop()
        logger.warning("%s: %s", signal.Signals(number).name, told)

    # Looked up before a signal can come that asks for it.
    outer = signal.getsignal(signal.SIGTERM)
    with _handled(ask):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within a block of the main thread, give both signals to a handler."""
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
