"""What one look at the machine found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        ok: False where the main job cannot run, or must not be trusted.
        detail: What was found.
        hint: What to do. With `ok` it is advice.
    """

    name: str
    ok: bool
    detail: str
    hint: str | None = None
