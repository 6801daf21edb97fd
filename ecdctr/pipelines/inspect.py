"""What the ledger and the tables hold, for people."""

import dataclasses
import difflib
import json
from typing import Any

from ecdctr.exceptions import InputError
from ecdctr.lake.schema import TABLES
from ecdctr.pipelines.workspace import Workspace


def list_models(workspace: Workspace) -> list[dict[str, Any]]:
    """Published versions, oldest first; `current` are those that this configuration and seed go on from."""
    config = workspace.config
    return [
        {
            "version": entry.version, "level": entry.level, "arm": entry.arm, "date": str(entry.date),
            "window": f"[{entry.window_from}, {entry.window_until})", "parents": len(entry.parents),
            "current": entry.config_digest == config.model_digest(entry.level) and entry.seed == config.seed,
        }
        for entry in workspace.ledger.versions()
    ]  # fmt: skip


def show_model(workspace: Workspace, version: str) -> dict[str, Any]:
    """Everything recorded of one version.

    Raises:
        InputError: No such version.
    """
    entries = {entry.version: entry for entry in workspace.ledger.versions()}
    _require(version, entries, "version", "ecdctr models list")
    tree = dataclasses.asdict(entries[version])
    record = json.loads(tree.pop("metrics_json"))
    return tree | {name: value for name, value in record.items() if name != "loss_curve"}


def list_tables(workspace: Workspace) -> list[dict[str, Any]]:
    """Tables that exist, with version, rows, bytes and files."""
    return [dataclasses.asdict(info) for info in workspace.lake.describe()]


def show_table(workspace: Workspace, name: str) -> dict[str, Any]:
    """Columns of one table with their meaning.

    Raises:
        InputError: No such table, or one that is not written yet.
    """
    _require(name, TABLES, "table", "ecdctr tables list")
    if not workspace.lake.exists(name):
        raise InputError(f"table {name} is not written yet", hint="ecdctr prepare, or ecdctr run")
    frame = workspace.lake.read(name)
    columns = [
        {"column": field.name, "type": field.dataType.simpleString(), "meaning": field.metadata.get("comment", "")}
        for field in frame.schema.fields
    ]
    return {"table": name, "version": workspace.lake.version(name), "columns": columns}


def _require(name: str, known: Any, kind: str, command: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, list(known), n=1)
        raise InputError(f"no {kind} {name!r}", hint=f"did you mean {near[0]}?" if near else f"see {command}")
