"""`train`: one level for one day, published at once."""

import datetime as dt
from typing import Any

from ecdctr.exceptions import AlreadyDone, InputError
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.pipelines.arms import ARMS, twins
from ecdctr.pipelines.clock import DAY
from ecdctr.pipelines.levels import BASE, Levels
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.workspace import Workspace

LEVELS = ("tpm", "cpm", "actr")


def train_one(workspace: Workspace, level: str, date: dt.date) -> dict[str, Any]:
    """Train one level on the data strictly before `date`, for every arm of the configuration that has it.

    A-CTR versions also score `date` itself where its samples are prepared.

    Returns:
        Names and figures of the published versions.

    Raises:
        InputError: No such level.
        NotReadyError: No data in the window, a missing parent.
        AlreadyDone: All versions of that day are published.
    """
    if level not in LEVELS:
        raise InputError(f"{level!r} is no level", hint=f"choose one of {', '.join(LEVELS)}")
    publisher = Publisher(workspace)
    levels = Levels(workspace, publisher)
    arms = [ARMS[name] for name in workspace.config.arms]
    made: list[LedgerEntry] = []

    def missing(name: str) -> bool:
        return date not in [entry.date for entry in publisher.versions(level, name)]

    if level == "tpm" and missing(BASE):
        made.append(levels.tpm(date))
    elif level == "cpm":
        made += [levels.cpm(date, twin) for twin in twins(arms, workspace.config) if missing(twin.name)]
    elif level == "actr":
        days = {str(file.event_date) for file in workspace.pinned("ad_samples").files}
        made += [levels.actr(date, arm, score=date.isoformat() in days) for arm in arms if missing(arm.name)]
    if not made:
        raise AlreadyDone(
            f"{level} of {date} is published", hint=f"see ecdctr models list; the next day is {date + DAY}"
        )
    publisher.flush()
    return {"versions": [entry.version for entry in made], "digests": [entry.digest for entry in made]}
