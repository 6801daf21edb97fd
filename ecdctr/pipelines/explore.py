"""Tables as small pandas frames, read from the exact files of a version without Spark: for notebooks and people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecdctr.exceptions import InputError
from ecdctr.lake.delta_log import commits
from ecdctr.lake.schema import DOMAINS
from ecdctr.pipelines.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


def table_versions(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """Every commit of a table that its log still has: version, time (UTC), operation, rows added and taken out."""
    return [
        {
            "version": commit.version, "committed": commit.time, "operation": commit.operation,
            "rows_added": commit.rows_added, "files_added": commit.files_added, "files_removed": commit.files_removed,
        }
        for commit in commits(workspace.lake.path(name))
    ]  # fmt: skip


def table_frame(
    workspace: Workspace, name: str, columns: Sequence[str] | None = None, version: int | None = None
) -> "pd.DataFrame":
    """All rows of some columns of a table, in the memory of this process.

    Args:
        workspace: The opened workspace.
        name: The table.
        columns: By default all.
        version: By default the newest.

    Raises:
        InputError: A column that the table does not have.
        NotReadyError: No such table is written.
    """
    snapshot = workspace.lake.snapshot(name, version)
    known = [field["name"] for field in snapshot.schema["fields"]]
    wanted = list(columns) if columns is not None else known
    unknown = [column for column in wanted if column not in known]
    if unknown:
        raise InputError(f"{name} has no column {', '.join(unknown)}", hint=f"its columns are {', '.join(known)}")
    parts = []
    for file, values in zip(snapshot.files, snapshot.partitions, strict=True):
        table = pq.ParquetFile(file.path).read([column for column in wanted if column not in values])
        for column in wanted:
            if column in values:
                value: Any = file.event_date if column == "event_date" else values[column]
                table = table.append_column(column, pa.array([value] * file.rows))
        parts.append(table.select(wanted))
    found: pd.DataFrame = (pa.concat_tables(parts) if parts else pa.table({name: [] for name in wanted})).to_pandas()
    return found


def click_rates(workspace: Workspace) -> "pd.DataFrame":
    """Rows, clicks and click rate of each day of both domains' clean impressions."""
    import pandas as pd

    days = []
    for domain in DOMAINS:
        rows = table_frame(workspace, f"{domain}_impressions", ["event_date", "label"])
        found = rows.groupby("event_date")["label"].agg(rows="size", clicks="sum").reset_index()
        days.append(found.assign(domain=domain, click_rate=found["clicks"] / found["rows"]))
    return pd.concat(days, ignore_index=True)[["domain", "event_date", "rows", "clicks", "click_rate"]]


def vocabulary_growth(workspace: Workspace) -> "pd.DataFrame":
    """Tokens with an id of their own at the end of each day, one column for each vocabulary."""
    rows = table_frame(workspace, "vocabulary", ["field", "admitted"])
    counts = rows.groupby(["admitted", "field"]).size().unstack(fill_value=0).sort_index()
    return counts.cumsum()


def quarantine_reasons(workspace: Workspace) -> "pd.DataFrame":
    """Rows put aside, by domain, reason and day; without a row where there are none."""
    import pandas as pd

    names = ["domain", "reason", "event_date"]
    if not workspace.lake.exists("quarantine"):
        return pd.DataFrame(columns=[*names, "rows"])
    rows = table_frame(workspace, "quarantine", names)
    return rows.groupby(names, dropna=False).size().rename("rows").reset_index()


def quality_frame(history: Sequence[dict[str, Any]]) -> "pd.DataFrame":
    """What `ecdctr.pipelines.quality.quality_history` gives, one row for each check and day."""
    import pandas as pd

    columns = ["domain", "check", "subject", "date", "value", "expected", "outcome"]
    rows = [{key: check[key] for key in columns[:3]} | day for check in history for day in check["days"]]
    return pd.DataFrame(rows, columns=columns)
