"""Stops a preparation before it writes, when the days look wrong."""

from pydantic import Field

from ecdctr.hooks.protocol import Hook, QualityEvent
from ecdctr.settings import Settings


class QualityGate(Settings, Hook):
    """Fails the step where more checks than allowed are out of bounds, each being only a warning by itself."""

    allowed: int = Field(default=0, ge=0)
    """Checks out of bounds that are let through."""

    @property
    def fails_step(self) -> bool:  # type: ignore[override]
        """A gate that lets all through would be none."""
        return True

    def after_quality(self, event: QualityEvent) -> None:
        """Count what is out of bounds.

        Raises:
            ValueError: It is more than allowed.
        """
        bad = [outcome for outcome in event.outcomes if outcome["outcome"] not in ("ok", "no_history")]
        if len(bad) > self.allowed:
            shown = "; ".join(
                f"{one['domain']} {one['event_date']} {one['check']} {one['subject']}: {one['value']:.4g}, expected {one['expected']:.4g}"
                for one in bad[:3]
            )
            raise ValueError(f"{len(bad)} checks are out of bounds, {self.allowed} are allowed: {shown}")
