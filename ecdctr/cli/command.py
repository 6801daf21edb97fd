"""What all commands have in common: their options, the way they end, and how results are written."""

import datetime as dt
import io
import json
import logging
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecdctr import log
from ecdctr.config import Config, load_config
from ecdctr.distributed.stop_signals import interruptible
from ecdctr.exceptions import AlreadyDone, EcdctrError, InputError, NotReadyError, TemporaryError

if TYPE_CHECKING:
    from ecdctr.pipelines.workspace import Workspace

logger = logging.getLogger(__name__)

ConfigPath = Annotated[Path, typer.Option("--config", help="A YAML file, or a folder of overlays.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="key.path=value, over the config; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON line on stdout; the log goes to stderr.")]
Date = Annotated[str | None, typer.Option(help="A day, YYYY-MM-DD (UTC days unless the data set says otherwise).")]
DEFAULT_CONFIG = Path("conf/datasets/simulated.yml")

STATUS = {NotReadyError.exit_code: "not_ready", AlreadyDone.exit_code: "noop"}


def as_day(text: str | None, option: str) -> dt.date | None:
    """A day of the command line; None where it was not given.

    Raises:
        InputError: It is no day.
    """
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{option} {text!r} is no day", hint="write YYYY-MM-DD, for example 2024-02-01") from error


def load(path: Path, overrides: list[str] | None) -> Config:
    """The configuration of a command."""
    return load_config(path, overrides or [])


def conclude(
    command: str, as_json: bool, action: Callable[[], dict[str, Any]], text: Callable[[dict[str, Any]], str]
) -> None:
    """Run one command's pipeline function and leave with the contract's exit code."""
    log.configure()
    answer: dict[str, Any] = {
        "status": "ok",
        "command": command,
        "run_id": uuid.uuid4().hex[:12],
        "result": {},
        "error": None,
    }
    code = 0
    with interruptible() as interruption:
        try:
            answer["result"] = action()
        except (Exception, KeyboardInterrupt) as error:
            code = _failed(answer, error, command, interrupted=interruption.asked)
    if as_json:
        sys.stdout.write(json.dumps(answer, default=str) + "\n")
    elif answer["result"]:
        sys.stdout.write(text(answer["result"]) + "\n")
    sys.stdout.flush()
    if code:
        raise typer.Exit(code)


def conclude_in_workspace(
    command: str,
    config: Path,
    overrides: list[str] | None,
    as_json: bool,
    action: "Callable[[Workspace], dict[str, Any]]",
    text: Callable[[dict[str, Any]], str],
) -> None:
    """`conclude` a command on the warehouse of a configuration.

    Args:
        command: Its name.
        config: The configuration's file or folder.
        overrides: What `--set` gave.
        as_json: Write the JSON object instead of the text.
        action: Does the work; imports what it needs by itself, so that `--help` waits for nothing.
        text: What people see of the result.
    """

    def opened() -> dict[str, Any]:
        from ecdctr.pipelines.workspace import workspace

        with workspace(load(config, overrides)) as found:
            return action(found)

    conclude(command, as_json, opened, text)


def _failed(answer: dict[str, Any], error: BaseException, command: str, *, interrupted: bool) -> int:
    """Put an error into the answer and the log; its exit code."""
    # A signal to the whole process group ends Spark's JVM as well: whatever that looked like from here, the signal is the cause.
    if isinstance(error, KeyboardInterrupt) or (interrupted and not isinstance(error, TemporaryError)):
        told = {"type": "KeyboardInterrupt", "message": "interrupted", "hint": "call again to go on"}
        answer |= {"status": "error", "error": told}
        logger.error("%s; %s", told["message"], told["hint"])
        return TemporaryError.exit_code
    if not isinstance(error, EcdctrError):
        answer |= {"status": "error", "error": {"type": type(error).__name__, "message": str(error), "hint": None}}
        logger.exception("%s failed", command)
        return 1
    code = error.exit_code
    answer["status"] = STATUS.get(code, "error")
    answer["error"] = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
    logger.log(logging.INFO if code == AlreadyDone.exit_code else logging.ERROR, "%s", error)
    return code


def lines(result: dict[str, Any]) -> str:
    """A result for people, a line for each key."""
    return "\n".join(f"{key:<16} {value}" for key, value in result.items())


def as_list(result: dict[str, Any], name: str) -> str:
    """The part of a result that lists what a warehouse has; where it has nothing, which warehouse that is."""
    if result[name]:
        return as_table(result[name])
    return f"{result['warehouse']} has no {name}; --set name=NAME looks into the warehouse of another run"


def as_table(rows: list[dict[str, Any]]) -> str:
    """Rows for people, with a column for each key."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return "none"
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    # Names from data are no markup.
    console = Console(width=160, file=io.StringIO(), markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
