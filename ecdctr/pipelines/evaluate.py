"""Walk-forward metrics from stored predictions, and what transfer brought."""

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecdctr.exceptions import NotReadyError
from ecdctr.metrics import by_activity, by_flag, calibration_bins, paired_bootstrap, summary
from ecdctr.pipelines.agreement import refuse_disagreement
from ecdctr.pipelines.popularity import popularity_auc
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.segments import known, segments
from ecdctr.pipelines.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

BASELINE = "target_only"
METRICS = ("auc", "gauc", "log_loss")
COLUMNS = pa.schema(
    [
        ("event_id", pa.string()), ("user_id", pa.string()), ("label", pa.int32()), ("probability", pa.float64()),
        ("model_version", pa.string()), ("arm", pa.string()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """Figures of a walk.

    Attributes:
        daily: For each arm, one row of metrics per day, with the version that scored it.
        pooled: For each arm, metrics over all days together.
        differences: Each arm against ads only, with intervals over users.
        calibration: For each arm, bins of predicted and observed click rate.
        by_activity: For each arm, metrics by how many ads a user saw in the walk.
        cold_users: For each arm, metrics of users who saw no ad before the scored day, and of the others.
        popularity_auc: AUC of an item's smoothed click rate up to the day before, on the same rows.
    """

    daily: dict[str, list[dict[str, Any]]]
    pooled: dict[str, dict[str, Any]]
    differences: list[dict[str, Any]]
    calibration: dict[str, list[dict[str, Any]]]
    by_activity: dict[str, dict[str, dict[str, Any]]]
    cold_users: dict[str, dict[str, dict[str, Any]]]
    popularity_auc: float | None


def load_predictions(workspace: Workspace, arms: Sequence[str], since: dt.date, until: dt.date) -> "pd.DataFrame":
    """Predictions of this configuration's published versions for the days of a window, each by the version of its day.

    Returns:
        Columns event_id, event_date, user_id, label, probability, model_version, arm; each (arm, event) once, in one
        order for all arms.

    Raises:
        NotReadyError: An arm without a prediction in the window.
        InputError: All versions of an arm are of another generation of the vocabulary.
    """
    dates = {entry.version: entry.date for arm in arms for entry in Publisher(workspace).versions("actr", arm)}
    frame = stored_predictions(workspace, list(dates), since, until)
    # A version also scores held-out rows of earlier days.
    frame = frame[frame["event_date"] == frame["model_version"].map(dates)]
    frame = frame.sort_values(["arm", "event_date", "event_id"], ignore_index=True)
    missing = sorted(set(arms) - set(frame["arm"]))
    if missing:
        for arm in missing:
            Publisher(workspace).refuse_other_generation("actr", arm)
        raise NotReadyError(
            f"no predictions of {', '.join(missing)} in [{since}, {until})",
            hint=f"ecdctr run --from {since} --until {until}",
        )
    return frame


def stored_predictions(workspace: Workspace, versions: Sequence[str], since: dt.date, until: dt.date) -> "pd.DataFrame":
    """All that some versions have scored of the days `[since, until)`, read from the pinned files without Spark.

    Raises:
        NotReadyError: No day was ever scored.
    """
    if not workspace.lake.exists("predictions"):
        raise NotReadyError(
            "no day is scored yet",
            hint="a day is scored once its rows are prepared: ecdctr prepare, then train actr or run",
        )
    wanted = pa.array(list(versions), pa.string())
    parts, dates = [COLUMNS.empty_table()], list[dt.date | None]()
    for pinned in workspace.lake.pin("predictions", since, until).files:
        file = pq.ParquetFile(pinned.path)
        chosen = pc.is_in(file.read(["model_version"])["model_version"], wanted)
        # Most files hold the versions of one arm and seed, so that most need not be read.
        if pc.any(chosen).as_py():
            parts.append(file.read(COLUMNS.names).select(COLUMNS.names).filter(chosen).cast(COLUMNS))
            dates += [pinned.event_date] * parts[-1].num_rows
    frame: pd.DataFrame = pa.concat_tables(parts).to_pandas()
    frame["event_date"] = dates
    return frame


def evaluate(workspace: Workspace, since: dt.date, until: dt.date) -> Evaluation:
    """Metrics of every arm of the configuration on the days `[since, until)`.

    Raises:
        NotReadyError: An arm without predictions, or no row that all have scored and the log still has.
        IntegrityError: Arms were given different labels of the same rows.
    """
    arms: list[str] = list(workspace.config.arms)
    frame = _of_all_arms(load_predictions(workspace, arms, since, until), arms)
    parts = segments(workspace, since, until)
    frame = frame[known(frame, parts)].join(parts, on="event_id")
    by_arm = {arm: frame[frame["arm"] == arm].reset_index(drop=True) for arm in arms}
    for arm in arms[1:]:
        refuse_disagreement(workspace, arm, by_arm[arm], arms[0], by_arm[arms[0]])
    return Evaluation(
        daily={arm: _daily(rows) for arm, rows in by_arm.items()},
        pooled={arm: _summary(rows) for arm, rows in by_arm.items()},
        differences=_differences(by_arm, workspace.config.seed),
        calibration={arm: _calibration(rows) for arm, rows in by_arm.items()},
        by_activity={arm: by_activity(*_columns(rows)) for arm, rows in by_arm.items()},
        cold_users={arm: by_flag(*_columns(rows), rows["cold"].to_numpy()) for arm, rows in by_arm.items()},
        popularity_auc=popularity_auc(workspace, since, until, by_arm[arms[0]]),
    )


def _of_all_arms(frame: "pd.DataFrame", arms: Sequence[str]) -> "pd.DataFrame":
    """The rows that every arm has scored: one that was added later may have found more of a day than the others."""
    scored = frame.groupby("event_id")["arm"].transform("nunique") == len(arms)
    if not scored.all():
        left_out = frame.loc[~scored, "event_id"].nunique()
        logger.warning("%s rows that not every arm has scored are left out", f"{left_out:,}")
    if not scored.any():
        raise NotReadyError(f"there is no row that all of {', '.join(arms)} have scored", hint="choose a wider window")
    return frame[scored].reset_index(drop=True)


def _columns(rows: "pd.DataFrame") -> tuple[Any, Any, Any]:
    return rows["label"].to_numpy(), rows["probability"].to_numpy(), rows["user_id"].to_numpy()


def _summary(rows: "pd.DataFrame") -> dict[str, Any]:
    return summary(*_columns(rows))


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


def _calibration(rows: "pd.DataFrame") -> list[dict[str, Any]]:
    found = calibration_bins(rows["label"].to_numpy(), rows["probability"].to_numpy())
    return [{"predicted": part.predicted, "observed": part.observed, "rows": part.rows} for part in found]
