"""Gather everything a report says: tables, versions with their lineage, metrics, times (contract §6)."""

import datetime as dt
import json
from typing import Any

from ecdctr import __version__
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.evaluate import BASELINE, Evaluation
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.quality import quality_history
from ecdctr.pipelines.workspace import Workspace
from ecdctr.report.schema import Report

LEVELS = ("tpm", "cpm", "actr")


def summarize(
    workspace: Workspace, window: tuple[dt.date, dt.date], evaluation: Evaluation, seconds: dict[str, float]
) -> Report:
    """The report of one walk.

    Args:
        workspace: The opened workspace, everything published.
        window: The walked days.
        evaluation: Metrics of all arms.
        seconds: Wall time by stage, of the call that ended the run.
    """
    config = workspace.config
    main = config.arms[0]
    versions = versions_of_walk(workspace, window)
    used = [entry for level in LEVELS for entry in versions[level]]
    return Report.model_validate(
        {
            "schema_version": 1,
            "run_id": f"{config.name}-{config.digest()[:12]}",
            "config_digest": config.digest(),
            "code_version": __version__,
            "seed": config.seed,
            "ranks": config.ranks,
            "dataset": dataset_facts(workspace),
            "tables": {
                info.name: {"version": info.version, "rows": info.rows, "bytes": info.bytes, "files": info.files}
                for info in workspace.lake.describe()
            },
            "levels": {level: [_version(entry) for entry in versions[level]] for level in LEVELS},
            "daily": evaluation.daily[main],
            "pooled": evaluation.pooled[main],
            "seconds": seconds,
            "arms": {
                arm: {"daily": evaluation.daily[arm], "pooled": evaluation.pooled[arm], "title": ARMS[arm].title}
                for arm in config.arms
            },
            "transfer": {
                "arm": main,
                "baseline": BASELINE,
                "differences": [d for d in evaluation.differences if d["arm"] == main],
            },
            "differences": evaluation.differences,
            "startup_seconds": workspace.startup | workspace.opening,
            "loss_curves": {entry.version: json.loads(entry.metrics_json)["loss_curve"] for entry in used},
            "calibration": evaluation.calibration,
            "by_activity": evaluation.by_activity,
            "cold_users": evaluation.cold_users,
            "policies": _policies(versions["actr"]),
            "constants": {"popularity_auc": evaluation.popularity_auc, "constant_auc": 0.5},
            "quality": quality_history(workspace),
        }
    )


def versions_of_walk(workspace: Workspace, window: tuple[dt.date, dt.date]) -> dict[str, list[LedgerEntry]]:
    """Versions that the walked days rest on: theirs, and all ancestors of these."""
    config = workspace.config
    publisher = Publisher(workspace)
    entries = {entry.version: entry for entry in workspace.ledger.versions()}
    wanted = [
        entry.version
        for arm in config.arms
        for entry in publisher.versions("actr", arm)
        if window[0] <= entry.date < window[1]
    ]
    found: dict[str, LedgerEntry] = {}
    while wanted:
        entry = entries[wanted.pop()]
        if entry.version not in found:
            found[entry.version] = entry
            # A-CTR versions before the walk are no part of its story.
            wanted += [parent for parent in entry.parents if entries[parent].level != "actr"]
    ordered = sorted(found.values(), key=lambda entry: (entry.date, entry.arm))
    return {level: [entry for entry in ordered if entry.level == level] for level in LEVELS}


def _version(entry: LedgerEntry) -> dict[str, Any]:
    record = json.loads(entry.metrics_json)
    seconds = max(record["seconds"], 1e-9)
    return {
        "version": entry.version,
        "parents": list(entry.parents),
        "window": [entry.window_from, entry.window_until],
        "rows": record["rows"],
        "steps": record["steps"],
        "seconds": record["seconds"],
        "samples_per_second": record["rows"] / seconds,
        "peak_rss_bytes": record["peak_rss_bytes"],
        "parameters": record["parameters"],
        "train_log_loss": record["train_log_loss"],
        "arm": entry.arm,
        "date": entry.date,
        "phases": record["phases"],
        "early_stopping": record.get("early_stopping"),
    }


def _policies(entries: list[LedgerEntry]) -> dict[str, Any]:
    """What each arm's policies chose, over all its versions' scored days together."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        chosen = json.loads(entry.metrics_json).get("policies")
        if chosen is None:
            continue
        arm = found.setdefault(entry.arm, {"decisions": chosen["decisions"], "by_activity": {}})
        for part, rows in chosen["rows"].items():
            held = arm["by_activity"].setdefault(part, {"rows": 0, "tuned": [0.0] * len(chosen["decisions"])})
            total = held["rows"] + rows
            pairs = zip(held["tuned"], chosen["tuned"][part], strict=True)
            # Clipped, since a mean of ones can round above one.
            held["tuned"] = [min((old * held["rows"] + new * rows) / total, 1.0) for old, new in pairs]
            held["rows"] = total
    for arm in found.values():
        arm["by_activity"] = {part: arm["by_activity"][part] for part in sorted(arm["by_activity"], key=_first_count)}
    return found


def _first_count(part: str) -> int:
    return int(part.split("-")[0].removesuffix("+"))


def dataset_facts(workspace: Workspace) -> dict[str, Any]:
    """Name, sizes and days of the data."""
    natural, ads = (workspace.pinned(name) for name in ("natural_samples", "ad_samples"))
    counts = workspace.count_entities()
    days = [file.event_date for pinned in (natural, ads) for file in pinned.files if file.event_date is not None]
    return {
        "name": workspace.config.name,
        "natural_rows": natural.rows,
        "ad_rows": ads.rows,
        "users": counts["users"],
        "items": counts["items"],
        "from": min(days),
        "until": max(days) + dt.timedelta(days=1),
    }
