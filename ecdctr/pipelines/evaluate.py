"""Walk-forward metrics from stored predictions, and what transfer brought."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ecdctr.exceptions import NotReadyError
from ecdctr.metrics import paired_bootstrap, summary
from ecdctr.pipelines.popularity import popularity_auc
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "target_only"
METRICS = ("auc", "gauc", "log_loss")


@dataclass(frozen=True)
class Evaluation:
    """Figures of a walk.

    Attributes:
        daily: For each arm, one row of metrics per day, with the version that scored it.
        pooled: For each arm, metrics over all days together.
        differences: Each arm against ads only, with intervals over users.
        calibration: For each arm, bins of predicted and observed click rate.
        by_activity: For each arm, metrics by how many ads a user saw in the walk.
        popularity_auc: AUC of an item's smoothed click rate up to the day before.
    """

    daily: dict[str, list[dict[str, Any]]]
    pooled: dict[str, dict[str, Any]]
    differences: list[dict[str, Any]]
    calibration: dict[str, list[dict[str, Any]]]
    by_activity: dict[str, dict[str, dict[str, Any]]]
    popularity_auc: float | None


def load_predictions(workspace: Workspace, arms: Sequence[str], since: dt.date, until: dt.date) -> "pd.DataFrame":
    """Predictions of this configuration's published versions for the days of a window.

    Returns:
        Columns event_id, event_date, user_id, label, probability, model_version, arm; each (arm, event) once.

    Raises:
        NotReadyError: An arm without a prediction in the window.
    """
    versions = [entry.version for arm in arms for entry in Publisher(workspace).versions("actr", arm)]
    table = workspace.lake.read("predictions")
    rows = table.where(table.model_version.isin(versions) & (table.event_date >= since) & (table.event_date < until))
    frame = rows.drop("seed").toPandas().sort_values(["arm", "event_date", "event_id"], ignore_index=True)
    missing = sorted(set(arms) - set(frame["arm"]))
    if missing:
        raise NotReadyError(
            f"no predictions of {', '.join(missing)} in [{since}, {until})",
            hint=f"ecdctr run --from {since} --until {until}",
        )
    return frame


def evaluate(workspace: Workspace, since: dt.date, until: dt.date) -> Evaluation:
    """Metrics of every arm of the configuration on the days `[since, until)`."""
    arms = workspace.config.arms
    frame = load_predictions(workspace, arms, since, until)
    by_arm = {arm: frame[frame["arm"] == arm].reset_index(drop=True) for arm in arms}
    return Evaluation(
        daily={arm: _daily(rows) for arm, rows in by_arm.items()},
        pooled={arm: _summary(rows) for arm, rows in by_arm.items()},
        differences=_differences(by_arm, workspace.config.seed),
        calibration={arm: _calibration(rows) for arm, rows in by_arm.items()},
        by_activity={arm: _by_activity(rows) for arm, rows in by_arm.items()},
        popularity_auc=popularity_auc(workspace, since, until),
    )


def _summary(rows: "pd.DataFrame") -> dict[str, Any]:
    return summary(rows["label"].to_numpy(), rows["probability"].to_numpy(), rows["user_id"].to_numpy())


def _daily(rows: "pd.DataFrame") -> list[dict[str, Any]]:
    return [
        {"date": str(date), **_summary(day), "model_version": str(day["model_version"].iloc[0])}
        for date, day in rows.groupby("event_date")
    ]


def _differences(by_arm: "dict[str, pd.DataFrame]", seed: int) -> list[dict[str, Any]]:
    if BASELINE not in by_arm:
        return []
    base = by_arm[BASELINE].set_index("event_id")
    found = []
    for arm, rows in by_arm.items():
        if arm == BASELINE:
            continue
        other = base.loc[rows["event_id"]]
        for metric in METRICS:
            interval = paired_bootstrap(
                rows["label"].to_numpy(), rows["probability"].to_numpy(), other["probability"].to_numpy(),
                rows["user_id"].to_numpy(), metric=metric, seed=seed,
            )  # fmt: skip
            if interval is not None:
                found.append({"arm": arm, "baseline": BASELINE, "metric": metric, **interval})
    return found


def _calibration(rows: "pd.DataFrame", bins: int = 10) -> list[dict[str, Any]]:
    ordered = rows.sort_values("probability", kind="stable")
    size = max(1, -(-len(ordered) // bins))
    groups = [ordered.iloc[at : at + size] for at in range(0, len(ordered), size)]
    return [
        {"predicted": float(part["probability"].mean()), "observed": float(part["label"].mean()), "rows": len(part)}
        for part in groups
    ]


def _by_activity(rows: "pd.DataFrame") -> dict[str, dict[str, Any]]:
    seen = rows.groupby("user_id")["event_id"].transform("size")
    edges = {"1": (1, 1), "2-4": (2, 4), "5-9": (5, 9), "10+": (10, 10**9)}
    parts = {name: rows[(seen >= low) & (seen <= high)] for name, (low, high) in edges.items()}
    return {name: _summary(part) for name, part in parts.items() if len(part)}
