"""`train`: one level for one day, published at once."""

import datetime as dt
from typing import Any

from ecdctr.exceptions import AlreadyDone, InputError
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.pipelines.arms import ARMS, twins
from ecdctr.pipelines.clock import DAY, is_due, snapshot_dates
from ecdctr.pipelines.levels import BASE, Levels
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.workspace import Workspace

LEVELS = ("tpm", "cpm", "actr")
SETTLED_DAYS = 7
"""Days after which a closed day is taken to be scored as a whole: no command has to count all that was ever scored."""


def train_one(workspace: Workspace, level: str, date: dt.date, *, only_due: bool = False) -> dict[str, Any]:
    """Train one level on the data strictly before `date`, for every arm of the configuration that has it.

    A-CTR versions also score `date` itself where its samples are prepared, and those published before theirs were score
    them now.

    Args:
        workspace: Opened on prepared tables.
        level: tpm, cpm or actr.
        date: Logical date.
        only_due: Train what the level's own clock asks for at `date`, as a walk over days does, and nothing else: the
            first time also the earlier snapshots that TPM's consumers look up.

    Returns:
        Names and digests of the published versions, and which earlier ones have scored their day now.

    Raises:
        InputError: No such level.
        NotReadyError: Rows before `date` are missing, a missing parent.
        AlreadyDone: All versions of that day are published, or none is due.
    """
    if level not in LEVELS:
        raise InputError(f"{level!r} is no level", hint=f"choose one of {', '.join(LEVELS)}")
    workspace.refuse_unprepared(date)
    publisher = Publisher(workspace)
    levels = Levels(workspace, publisher)
    arms = [ARMS[name] for name in workspace.config.arms]
    made: list[LedgerEntry] = []
    late: list[LedgerEntry] = []

    def missing(name: str) -> bool:
        return date not in [entry.date for entry in publisher.versions(level, name)]

    if level == "tpm":
        dates = _snapshots_due(workspace, publisher, date) if only_due else [date] if missing(BASE) else []
        made += [levels.tpm(snapshot) for snapshot in dates]
    elif level == "cpm":
        for twin in twins(arms, workspace.config):
            done = [entry.date for entry in publisher.versions("cpm", twin.name)]
            if is_due(date, twin.every, done) if only_due else date not in done:
                made.append(levels.cpm(date, twin))
    elif level == "actr":
        changing = date - (workspace.config.dataset.late_window + SETTLED_DAYS) * DAY
        late = [entry for arm in arms for entry in publisher.unscored(arm.name, changing, date)]
        for entry in late:
            levels.score(entry)
        days = {str(file.event_date) for file in workspace.pinned("ad_samples").files}
        made += [levels.actr(date, arm, score=date.isoformat() in days) for arm in arms if missing(arm.name)]
    if not made and not late:
        raise AlreadyDone(
            f"{level} of {date} is {'not due, or published' if only_due else 'published'}",
            hint=f"see ecdctr models list; the next day is {date + DAY}",
        )
    publisher.flush()
    return {
        "versions": [entry.version for entry in made],
        "digests": [entry.digest for entry in made],
        "scored": [entry.version for entry in late],
    }


def _snapshots_due(workspace: Workspace, publisher: Publisher, date: dt.date) -> list[dt.date]:
    """Dates of the snapshots that TPM's clock asks for at a day; none where no arm reads them."""
    if not any(ARMS[name].history for name in workspace.config.arms):
        return []
    tpm = workspace.config.levels.tpm
    done = [entry.date for entry in publisher.versions("tpm", BASE)]
    return snapshot_dates(date, tpm.every, tpm.snapshots, done, workspace.first_day("natural_samples"))
