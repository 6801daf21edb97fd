"""What the checks of the days have found, as it stands now, for reports and people."""

import datetime as dt
from typing import Any

from ecdctr.etl.quality import Outcome, newest, read_outcomes
from ecdctr.pipelines.workspace import Workspace

QUIET = ("ok", "no_history")


def newest_outcomes(workspace: Workspace) -> list[Outcome]:
    """The last outcome of each check of each day, refused days included; by day."""
    return newest(read_outcomes(workspace.lake))


def quality_history(workspace: Workspace) -> list[dict[str, Any]]:
    """For each check of each log its days, as `ecdctr.report.schema.QualityCheck` takes them."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for outcome in newest_outcomes(workspace):
        found.setdefault((outcome.domain, outcome.check, outcome.subject), []).append(
            {
                "date": outcome.event_date, "value": outcome.value, "expected": outcome.expected,
                "outcome": outcome.outcome,
            }
        )  # fmt: skip
    return [
        {"domain": domain, "check": check, "subject": subject, "days": days}
        for (domain, check, subject), days in sorted(found.items())
    ]


def recent_outcomes(workspace: Workspace, days: int = 14) -> list[dict[str, Any]]:
    """Rows for people: what was out of bounds on any day, and everything of the last `days` days; newest first."""
    outcomes = newest_outcomes(workspace)
    last = max((outcome.event_date for outcome in outcomes), default=dt.date.min)
    shown = [o for o in outcomes if o.outcome not in QUIET or (last - o.event_date).days < days]
    return [
        {
            "day": str(outcome.event_date), "log": outcome.domain, "check": outcome.check, "of": outcome.subject,
            "value": f"{outcome.value:.4g}",
            "expected": "" if outcome.expected is None else f"{outcome.expected:.4g}",
            "outcome": outcome.outcome,
        }
        for outcome in sorted(shown, key=lambda o: o.event_date, reverse=True)
    ]  # fmt: skip
