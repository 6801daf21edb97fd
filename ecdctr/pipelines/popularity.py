"""The simplest model worth beating: an item's click rate so far."""

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecdctr.metrics import auc

if TYPE_CHECKING:
    import pandas as pd

    from ecdctr.pipelines.workspace import Workspace

PRIOR_IMPRESSIONS = 20.0


def popularity_auc(workspace: "Workspace", since: dt.date, until: dt.date, rows: "pd.DataFrame") -> float | None:
    """Pooled AUC of each ad's smoothed click rate on the days before the scored one, on the rows that arms are judged on.

    The rate is (clicks + 20·r) / (impressions + 20), r being the click rate of all ads so far.

    Args:
        workspace: Opened on the warehouse.
        since: First scored day.
        until: The day after the last.
        rows: event_id and label of the rows that are judged.

    Returns:
        None where the rows are of one class.
    """
    clicks: dict[int, float] = {}
    shown: dict[int, float] = {}
    labels: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    scores: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    judged, truth = pa.array(rows["event_id"], pa.string()), rows["label"].to_numpy(np.float64)
    by_day: dict[str, list[str]] = {}
    for file in workspace.pinned("ad_samples").files:
        by_day.setdefault(str(file.event_date), []).append(file.path)
    for day in sorted(day for day in by_day if day < until.isoformat()):
        scored = day >= since.isoformat()
        columns = ["item_id", "label", *(["event_id"] if scored else [])]
        table = pa.concat_tables(pq.ParquetFile(path).read(columns) for path in by_day[day])
        if scored:
            place = pc.index_in(table["event_id"], value_set=judged)
            rate = sum(clicks.values()) / max(sum(shown.values()), 1.0)
            score = {
                item: (clicks[item] + PRIOR_IMPRESSIONS * rate) / (shown[item] + PRIOR_IMPRESSIONS) for item in shown
            }
            labels.append(truth[place.drop_null().to_numpy()])
            items = table["item_id"].filter(place.is_valid()).to_pylist()
            scores.append(np.array([score.get(int(item), rate) for item in items], np.float64))
        counts = table.group_by("item_id").aggregate([("label", "sum"), ("label", "count")])
        for item, clicked, total in zip(
            *(pc.cast(counts[name], pa.float64()).to_pylist() for name in counts.column_names), strict=True
        ):
            clicks[int(item)] = clicks.get(int(item), 0.0) + clicked
            shown[int(item)] = shown.get(int(item), 0.0) + total
    return auc(np.concatenate(labels), np.concatenate(scores)) if labels else None
