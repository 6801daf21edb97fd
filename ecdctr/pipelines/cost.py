"""Rows and seconds of training per day, level by level, against training everything anew each day."""

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ecdctr.config.training import TrainingConfig
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.pipelines.arms import Arm
from ecdctr.pipelines.clock import DAY, days
from ecdctr.pipelines.holdout import held_out
from ecdctr.pipelines.workspace import Workspace

Effort = dict[str, float | None]
TABLES = {"tpm": "natural_samples", "cpm": "natural_samples", "actr": "ad_samples"}


def train_seconds(versions: dict[str, list[LedgerEntry]]) -> float:
    """Seconds of training of all versions."""
    return float(sum(_record(entry)["seconds"] for entries in versions.values() for entry in entries))


def cost(
    workspace: Workspace, arm: Arm, versions: dict[str, list[LedgerEntry]], since: dt.date, until: dt.date
) -> dict[str, Any]:
    """Cost of one arm and seed.

    Args:
        workspace: Its configuration says clocks and windows.
        arm: May have a clock of its own.
        versions: By level, those that the walk rests on, oldest first.
        since: First walked day.
        until: The day after the last.

    Returns:
        The keys of `ecdctr.report.comparison.Cost`. Rows are exact; seconds are those measured on each version's
        training.
    """
    levels = workspace.config.levels
    continued = [entry for entry in versions["actr"] if _continues(entry)]
    replayed = [entry for entry in versions["actr"] if entry not in continued]
    per_day = {"actr": _spread(versions["actr"], (until - since).days)}
    for name, clock in (("tpm", levels.tpm.every), ("cpm", arm.cpm_every or levels.cpm.every)):
        if versions[name]:
            # The first version of a level may have to catch up with its whole window; the later ones are the steady state.
            steady = versions[name][1:] or versions[name]
            per_day[name] = _spread(steady, clock * len(steady))
    anew = {name: _level_anew(workspace, arm, name, versions, since, until) for name in per_day}
    return {
        "updates": len(continued),
        "update": _spread(continued, len(continued)) if continued else None,
        "replays": len(replayed),
        "replay": _spread(replayed, len(replayed)) if replayed else None,
        "per_day": per_day,
        "retrained_daily": {name: {"rows": rows, "seconds": None} for name, rows in anew.items()},
    }


def mean_cost(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, which walk the same days in the same steps."""
    first = dict(found[0])
    for name in ("update", "replay"):
        first[name] = _mean([each[name] for each in found]) if first[name] else None
    for name in ("per_day", "retrained_daily"):
        first[name] = {level: _mean([each[name][level] for each in found]) for level in first[name]}
    return first


def _continues(entry: LedgerEntry) -> bool:
    return any(parent.startswith("actr-") for parent in entry.parents)


def _spread(entries: Sequence[LedgerEntry], over: int) -> Effort:
    records = [_record(entry) for entry in entries]
    return {name: sum(record[name] for record in records) / over for name in ("rows", "seconds")}


def _level_anew(
    workspace: Workspace, arm: Arm, name: str, versions: dict[str, list[LedgerEntry]], since: dt.date, until: dt.date
) -> float:
    """Rows that a level would read each day if it trained its whole window anew, as often as its versions read theirs."""
    config = workspace.config
    level = getattr(config.levels, name)
    training = config.joint.training if name == "actr" and arm.joint is not None else level.training
    reads = [(TABLES[name], level.window)]
    if name == "actr" and any("natural_samples" in entry.tables for entry in versions[name]):
        # Joint training reads the natural window of CPM beside the ads.
        reads.append(("natural_samples", config.levels.cpm.window))
    held_back = training.early_stopping.days
    rows = sum(_rows_anew(workspace, table, window, held_back, since, until) for table, window in reads)
    return rows * _epochs(training, versions[name])


def _epochs(training: TrainingConfig, entries: Sequence[LedgerEntry]) -> float:
    """How often a version reads its rows, as its record counts them: with early stopping up to the epoch that was kept."""
    kept = [_record(entry).get("early_stopping") for entry in entries]
    return float(np.mean([each["best_epoch"] if each else training.epochs for each in kept]))


def _rows_anew(workspace: Workspace, table: str, window: int, held_back: int, since: dt.date, until: dt.date) -> float:
    """Mean over the walked days of the rows in the window before each, without those that are held out.

    The last `held_back` days of each window are left out as well: early stopping looks at them and does not train on them.
    """
    pinned = workspace.pinned(table).files
    held = held_out(pinned, workspace.config.holdout) if table == "ad_samples" else set[str]()
    files = [(file.event_date, file.rows) for file in pinned if file.event_date is not None and file.path not in held]
    walked = days(since, until)
    return sum(
        rows for day in walked for date, rows in files if day - window * DAY <= date < day - held_back * DAY
    ) / len(walked)


def _record(entry: LedgerEntry) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(entry.metrics_json)
    return record


def _mean(found: Sequence[Effort]) -> Effort:
    known = {name: [value for each in found if (value := each[name]) is not None] for name in ("rows", "seconds")}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}
