"""Predictions of several arms and seeds on the same rows, and their figures as means over the seeds."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecdctr.config import Config
from ecdctr.metrics import by_activity, by_flag, calibration_bins, summary
from ecdctr.pipelines.agreement import refuse_disagreement
from ecdctr.pipelines.evaluate import load_predictions
from ecdctr.pipelines.segments import FLAGS, known, segments
from ecdctr.pipelines.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

Figures = dict[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Rows that every arm and seed has scored.

    Attributes:
        seeds: S seeds.
        rows: event_id, event_date, user_id, label and the booleans of `segments`, N rows.
        probabilities: By arm, (S, N).
    """

    seeds: tuple[int, ...]
    rows: "pd.DataFrame"
    probabilities: dict[str, Floats]

    def figures(self, arm: str) -> Figures:
        """Metrics of one arm over the walk: by seed, and means over the seeds of every part."""
        label, user = self.rows["label"].to_numpy(), self.rows["user_id"].to_numpy()
        scores = self.probabilities[arm]
        by_seed = [summary(label, score, user) for score in scores]
        flags = {name: self.rows[name].to_numpy() for name in FLAGS}

        def parts(of: Callable[[Floats], dict[str, Figures]]) -> dict[str, Figures]:
            found = [of(score) for score in scores]
            return {name: mean_metrics([part[name] for part in found]) for name in found[0]}

        return {
            "seeds": [{"seed": seed, **metrics} for seed, metrics in zip(self.seeds, by_seed, strict=True)],
            "mean": mean_metrics(by_seed),
            "daily": [{"date": str(day), **metrics} for day, metrics in parts(self._daily).items()],
            "by_activity": parts(lambda score: by_activity(label, score, user)),
            "cold_users": parts(lambda score: by_flag(label, score, user, flags["cold"])),
            "cold_ads": parts(lambda score: by_flag(label, score, user, flags["cold_ad"])),
            "returning_users": parts(
                lambda score: by_flag(label, score, user, flags["returning"], names=("returning", "others"))
            ),
            "calibration": [
                {"predicted": part.predicted, "observed": part.observed, "rows": part.rows}
                for part in calibration_bins(np.tile(label, len(scores)), scores.ravel())
            ],
        }

    def _daily(self, score: Floats) -> dict[str, Figures]:
        label, user = self.rows["label"].to_numpy(), self.rows["user_id"].to_numpy()
        places = self.rows.groupby("event_date", sort=True).indices
        return {str(day): summary(label[at], score[at], user[at]) for day, at in places.items()}


def mean_metrics(found: Sequence[Figures]) -> Figures:
    """Means over the seeds of the same rows' metrics; null where no seed has a value."""
    means = {name: found[0][name] for name in ("rows", "clicks")}
    for name in found[0].keys() - {"rows", "clicks"}:
        known = [metrics[name] for metrics in found if metrics[name] is not None]
        means[name] = float(np.mean(known)) if known else None
    return means


def load_scored(
    workspace: Workspace,
    variants: dict[int, Config],
    since: dt.date,
    until: dt.date,
    of_arm: Callable[[Config, str], Config] = lambda config, arm: config,
) -> Scored:
    """Predictions of all arms of a configuration and of all its seeds for the days `[since, until)`.

    Args:
        workspace: Opened on the warehouse.
        variants: By seed, the configuration that was walked.
        since: First day.
        until: The day after the last.
        of_arm: What an arm was walked with, where that is not the configuration itself.

    Raises:
        NotReadyError: An arm or seed without predictions, or no row that is still in the log.
        IntegrityError: Two arms or seeds have scored different rows, or the same ones with different labels.
    """
    flags = segments(workspace, since, until)
    rows: pd.DataFrame | None = None
    scores: dict[str, list[Floats]] = {}
    for seed, config in variants.items():
        for arm in config.arms:
            with workspace.using(of_arm(config, arm)):
                frame = load_predictions(workspace, [arm], since, until)
                frame = frame[known(frame, flags)].reset_index(drop=True)
                rows = frame if rows is None else rows
                refuse_disagreement(workspace, f"{arm} of seed {seed}", frame, "other arms", rows)
                scores.setdefault(arm, []).append(frame["probability"].to_numpy(np.float64))
    assert rows is not None
    rows = rows.drop(columns=["probability", "model_version", "arm"]).join(flags, on="event_id")
    return Scored(tuple(variants), rows, {arm: np.stack(parts) for arm, parts in scores.items()})
