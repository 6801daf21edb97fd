"""What daily updates do to the knowledge of earlier days, on rows that A-CTR never trained on."""

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecdctr.config import Config
from ecdctr.metrics import auc, backward_transfer, log_loss, paired_bootstrap
from ecdctr.pipelines.agreement import refuse_disagreement
from ecdctr.pipelines.evaluate import stored_predictions
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


def forgetting(
    workspace: Workspace, variants: dict[int, Config], arm: str, since: dt.date, until: dt.date
) -> dict[str, Any]:
    """How one arm's versions of the days `[since, until)` score the held-out rows of the days before.

    Every version scores the same rows, so that the curve shows what updates change, not how hard days differ.

    Returns:
        The keys of `ecdctr.report.comparison.Forgetting`; none without a holdout.

    Raises:
        IntegrityError: Two versions have scored different held-out rows, or the same ones with different labels.
    """
    holdout = next(iter(variants.values())).holdout
    if holdout is None:
        return {}
    rows, scores = _held_out_scores(workspace, variants, arm, since, until)
    if rows is None:
        return {}
    label, user, versions = rows["label"].to_numpy(), rows["user_id"].to_numpy(), sorted(scores)
    order = [_mean([auc(label, score) for score in scores[date]]) for date in versions]
    surprise = [_mean([log_loss(label, score) for score in scores[date]]) for date in versions]
    interval = paired_bootstrap(
        label, scores[versions[-1]], scores[versions[0]], user, metric="auc", seed=min(variants)
    )
    return {
        "backward_transfer": _one_task(order),
        "low": interval["low"] if interval else None,
        "high": interval["high"] if interval else None,
        "backward_transfer_log_loss": _one_task([None if value is None else -value for value in surprise]),
        "window": (holdout.since, holdout.until),
        "rows": len(label),
        "clicks": int(label.sum()),
        "curve": [
            {"date": str(date), "auc": value, "log_loss": loss}
            for date, value, loss in zip(versions, order, surprise, strict=True)
        ],
    }


def _held_out_scores(
    workspace: Workspace, variants: dict[int, Config], arm: str, since: dt.date, until: dt.date
) -> "tuple[pd.DataFrame | None, dict[dt.date, Floats]]":
    """The held-out rows, and by the date of a version its scores of them, (S, N)."""
    rows: pd.DataFrame | None = None
    scores: dict[dt.date, list[Floats]] = {}
    for config in variants.values():
        assert config.holdout is not None
        with workspace.using(config):
            dates = {
                entry.version: entry.date
                for entry in Publisher(workspace).versions("actr", arm)
                if since <= entry.date < until
            }
            frame = stored_predictions(workspace, list(dates), config.holdout.since, config.holdout.until)
        for version, date in sorted(dates.items(), key=lambda item: item[1]):
            own = frame[frame["model_version"] == version].sort_values("event_id", ignore_index=True)
            if len(own):
                rows = own if rows is None else rows
                refuse_disagreement(workspace, version, own, "other versions", rows, "held-out rows")
                scores.setdefault(date, []).append(own["probability"].to_numpy(np.float64))
    return rows, {date: np.stack(parts) for date, parts in scores.items()}


def _one_task(values: list[float | None]) -> float | None:
    """Backward transfer of one set of rows that every version has scored: it was learned before the first of them."""
    matrix = np.full((len(values), len(values)), np.nan)
    matrix[:, 0] = [np.nan if value is None else value for value in values]
    return backward_transfer(matrix)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
