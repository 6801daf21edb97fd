"""Errors that travel from a rank to the driver as JSON, and keep their kind."""

import json
import traceback
from typing import Any

from ecdctr import exceptions
from ecdctr.exceptions import EcdctrError, TrainingError

_KINDS: dict[str, type[EcdctrError]] = {
    name: kind for name, kind in vars(exceptions).items() if isinstance(kind, type) and issubclass(kind, EcdctrError)
}


class ExchangeError(TrainingError):
    """An exchange failed because of another rank, whose own error, if it has one, says more."""


def describe(error: BaseException) -> dict[str, Any]:
    """An error as JSON.

    Returns:
        `type`, `message`, `hint`, `traceback`, and `echo`: whether it only tells that another rank failed.
    """
    message, hint = (error.message, error.hint) if isinstance(error, EcdctrError) else (str(error), None)
    return {
        "type": type(error).__name__,
        "message": message,
        "hint": hint,
        "traceback": "".join(traceback.format_exception(error)),
        "echo": isinstance(error, ExchangeError),
    }


def revive(described: dict[str, Any], rank: int, log: str) -> EcdctrError:
    """The error that the driver raises for what a rank has described.

    An error of this package comes back as its own kind, so with its exit code; any other becomes a `TrainingError`
    that names it. The rank's traceback is attached as a note.
    """
    kind = _KINDS.get(described["type"])
    if kind is not None:
        error = kind(described["message"], hint=described["hint"])
    else:
        error = TrainingError(
            described["message"] if described["echo"] else f"rank {rank}: {described['type']}: {described['message']}",
            hint=described["hint"] or f"the rank's log is {log}",
        )
    error.add_note(f"On rank {rank}:\n{described['traceback']}")
    return error


def worst(replies: dict[int, dict[str, Any]]) -> tuple[int, dict[str, Any]] | None:
    """The lowest rank with an error and that error; a rank's own error comes before an echo of another's."""
    failed = {rank: reply["error"] for rank, reply in replies.items() if "error" in reply}
    if not failed:
        return None
    rank = min(failed, key=lambda at: (failed[at]["echo"], at))
    return rank, failed[rank]


def jsonable(result: Any, name: str) -> Any:
    """Refuse a task's result that cannot travel as JSON.

    Raises:
        TrainingError: Something in it is not JSON.
    """
    try:
        json.dumps(result)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"the result of task {name!r} is not JSON: {error}") from error
    return result
