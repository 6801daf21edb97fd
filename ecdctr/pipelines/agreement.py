"""Arms, seeds and versions are compared on the same rows with the same labels, or not at all."""

from typing import TYPE_CHECKING

import numpy as np

from ecdctr.exceptions import IntegrityError
from ecdctr.pipelines.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

TABLE = "ad_samples"


def refuse_disagreement(
    workspace: Workspace,
    told: str,
    frame: "pd.DataFrame",
    against: str,
    others: "pd.DataFrame",
    what: str = "rows",
) -> None:
    """Refuse predictions of other rows, or of the same rows with other labels: an open day may be prepared again between two walks.

    Args:
        workspace: Its ledger says on which tables versions were trained.
        told: Whose predictions these are.
        frame: event_id, event_date, label and model_version.
        against: Whose the others are.
        others: The same columns, in the same order of events.
        what: What the rows are called.

    Raises:
        IntegrityError: The events or their labels differ.
    """
    if not frame["event_id"].equals(others["event_id"]):
        raise IntegrityError(
            f"{told} has scored {len(frame):,} {what}, {against} {len(others):,} {what}, not all the same",
            hint="samples were prepared again in between: choose another name, or remove the warehouse folder",
        )
    (differ,) = np.nonzero(frame["label"].to_numpy() != others["label"].to_numpy())
    if len(differ):
        first = int(differ[0])
        versions = [str(each["model_version"].iloc[first]) for each in (frame, others)]
        raise IntegrityError(
            f"{told} and {against} were given different labels in {len(differ):,} of {len(frame):,} {what}, first on "
            f"{frame['event_date'].iloc[first]}: {_trained_on(workspace, *versions)}",
            hint="labels have changed between two walks, and predictions keep those of their time: walk all arms anew, "
            "under another name or after removing the warehouse folder",
        )


def _trained_on(workspace: Workspace, version: str, other: str) -> str:
    """Which of two versions is the older one, as far as their tables tell."""
    known = {entry.version: entry.tables.get(TABLE) for entry in workspace.ledger.versions()}
    if known.get(version) == known.get(other):
        return f"by {version} and {other}"
    older, newer = sorted((version, other), key=lambda name: known.get(name) or 0)
    return f"{older} is older, trained on version {known.get(older)} of {TABLE}, {newer} on version {known.get(newer)}"
