"""Parts of the scored rows for which transfer matters most: users and ads without a past, users who come back."""

import datetime as dt
import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ecdctr.exceptions import NotReadyError
from ecdctr.pipelines.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

AWAY_DAYS = 7
FLAGS = ("cold", "cold_ad", "returning")


def segments(workspace: Workspace, since: dt.date, until: dt.date) -> "pd.DataFrame":
    """For each ad impression of the days `[since, until)`, which parts it belongs to.

    Returns:
        Indexed by event_id, booleans: `cold`, the user saw no ad before that day; `cold_ad`, nobody saw the ad before
        that day; `returning`, the user saw ads, but none in the `AWAY_DAYS` days before.
    """
    earlier = "max(event_date) OVER (PARTITION BY user_id ORDER BY unix_date(event_date) RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    marked = (
        workspace.lake.read("ad_impressions")
        .selectExpr(
            "event_id",
            "event_date",
            "min(event_date) OVER (PARTITION BY user_id) = event_date AS cold",
            "min(event_date) OVER (PARTITION BY item_id) = event_date AS cold_ad",
            f"coalesce({earlier} < date_sub(event_date, {AWAY_DAYS}), false) AS returning",
        )
        .where(f"event_date >= DATE'{since}' AND event_date < DATE'{until}'")
    )
    return marked.drop("event_date").toPandas().set_index("event_id")


def known(rows: "pd.DataFrame", parts: "pd.DataFrame") -> NDArray[np.bool_]:
    """Which scored rows have parts: those of an open day may have left the log since they were scored.

    Args:
        rows: event_id, N rows.
        parts: As `segments` gives them.

    Returns:
        (N,) booleans.

    Raises:
        NotReadyError: No row has.
    """
    found = rows["event_id"].isin(parts.index)
    if not found.all():
        left_out = rows.loc[~found, "event_id"].nunique()
        logger.warning("%s scored rows that ad_impressions no longer has are left out", f"{left_out:,}")
    if not found.any():
        raise NotReadyError(
            f"ad_impressions has none of the {len(rows):,} scored rows",
            hint="choose days whose rows are still in the log: --from, --until",
        )
    kept: NDArray[np.bool_] = found.to_numpy()
    return kept
