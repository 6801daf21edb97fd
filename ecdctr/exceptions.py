"""The one tree of errors; each carries the exit code that a scheduler acts on."""


class EcdctrError(Exception):
    """A failure with a message for people: what was found, what was expected.

    Args:
        message: What was found and what was expected, with names and values.
        hint: What to change; printed on its own line after ``HINT:``.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nHINT: {self.hint}" if self.hint else self.message


class InputError(EcdctrError):
    """Rows, columns or files that break the input contract."""

    exit_code = 2


class ConfigError(EcdctrError):
    """A configuration that does not validate."""

    exit_code = 2


class NotReadyError(EcdctrError):
    """An upstream table, day or version is not there yet."""

    exit_code = 3


class AlreadyDone(EcdctrError):  # noqa: N818 - a state, not a failure
    """Nothing is left to do: the result asked for exists."""

    exit_code = 4


class TemporaryError(EcdctrError):
    """Stopped half-way through no fault of the input; trying again is right."""

    exit_code = 75


class IntegrityError(EcdctrError):
    """Stored bytes that differ from their recorded digest, or two ranks that differ from one another."""


class TrainingError(EcdctrError):
    """Training that cannot go on: a diverged loss, a lost rank."""
