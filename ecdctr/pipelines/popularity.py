"""The simplest model worth beating: an item's click rate so far."""

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecdctr.metrics import auc

if TYPE_CHECKING:
    from ecdctr.pipelines.workspace import Workspace

PRIOR_IMPRESSIONS = 20.0


def popularity_auc(workspace: "Workspace", since: dt.date, until: dt.date) -> float | None:
    """Pooled AUC of each ad's smoothed click rate on the days before the scored one.

    The rate is (clicks + 20·r) / (impressions + 20), r being the click rate of all ads so far.

    Returns:
        None where the days are of one class.
    """
    clicks: dict[int, float] = {}
    shown: dict[int, float] = {}
    labels: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    scores: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    by_day: dict[str, list[str]] = {}
    for file in workspace.pinned("ad_samples").files:
        by_day.setdefault(str(file.event_date), []).append(file.path)
    for day in sorted(day for day in by_day if day < until.isoformat()):
        table = pa.concat_tables(pq.ParquetFile(path).read(["item_id", "label"]) for path in by_day[day])
        items, label = table["item_id"].to_numpy(), table["label"].to_numpy().astype(np.float64)
        if day >= since.isoformat():
            rate = sum(clicks.values()) / max(sum(shown.values()), 1.0)
            score = {
                item: (clicks[item] + PRIOR_IMPRESSIONS * rate) / (shown[item] + PRIOR_IMPRESSIONS) for item in shown
            }
            labels.append(label)
            scores.append(np.array([score.get(int(item), rate) for item in items]))
        counts = table.group_by("item_id").aggregate([("label", "sum"), ("label", "count")])
        for item, clicked, total in zip(
            *(pc.cast(counts[name], pa.float64()).to_pylist() for name in counts.column_names), strict=True
        ):
            clicks[int(item)] = clicks.get(int(item), 0.0) + clicked
            shown[int(item)] = shown.get(int(item), 0.0) + total
    return auc(np.concatenate(labels), np.concatenate(scores)) if labels else None
