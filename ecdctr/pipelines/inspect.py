"""What the ledger and the tables hold, for people."""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from typing import Any

from ecdctr.etl.quality import TABLE as QUALITY
from ecdctr.exceptions import InputError
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.lake.schema import TABLES
from ecdctr.pipelines.quality import recent_outcomes
from ecdctr.pipelines.workspace import Workspace


def list_models(workspace: Workspace) -> list[dict[str, Any]]:
    """Published versions, oldest first; `current` are those that this configuration and seed go on from, one `serves`.

    Of versions out of use clean-up has removed the `files`, their own or those that they were made from.
    """
    config, served = workspace.config, set(workspace.ledger.aliases().values())
    known = {entry.version: entry for entry in workspace.ledger.versions()}
    return [
        {
            "version": entry.version, "level": entry.level, "arm": entry.arm, "date": str(entry.date),
            "window": f"[{entry.window_from}, {entry.window_until})", "parents": len(entry.parents),
            "current": entry.config_digest == config.model_digest(entry.level) and entry.seed == config.seed,
            "serves": entry.version in served, "files": _has_files(workspace, known, entry),
        }
        for entry in known.values()
    ]  # fmt: skip


def _has_files(workspace: Workspace, known: Mapping[str, LedgerEntry], entry: LedgerEntry) -> bool:
    """Whether a version's files are there, and those that it was made from, without which it cannot serve."""
    needed = [known[version].artifact for version in (entry.version, *entry.parents) if version in known]
    return all(workspace.store.path(artifact).exists() for artifact in needed)


def show_model(workspace: Workspace, version: str) -> dict[str, Any]:
    """Everything recorded of one version.

    Raises:
        InputError: No such version.
    """
    entries = {entry.version: entry for entry in workspace.ledger.versions()}
    require(version, entries, "version", "ecdctr models list")
    tree = dataclasses.asdict(entries[version])
    tree["files"] = _has_files(workspace, entries, entries[version])
    tree["aliases"] = [name for name, found in workspace.ledger.aliases().items() if found == version]
    record = json.loads(tree.pop("metrics_json"))
    return tree | {name: value for name, value in record.items() if name != "loss_curve"}


def list_tables(workspace: Workspace) -> list[dict[str, Any]]:
    """Tables that exist, with version, rows, bytes and files."""
    return [dataclasses.asdict(info) for info in workspace.lake.describe()]


def show_table(workspace: Workspace, name: str) -> dict[str, Any]:
    """Columns of one table with their meaning, its days, and of `data_quality` what the checks found; without Spark.

    Raises:
        InputError: No such table, or one that is not written yet.
    """
    require(name, TABLES, "table", "ecdctr tables list")
    if not workspace.lake.exists(name):
        raise InputError(f"table {name} is not written yet", hint="ecdctr prepare, or ecdctr run")
    snapshot = workspace.lake.snapshot(name)
    columns = [
        {"column": field["name"], "type": _type(field["type"]), "meaning": field["metadata"].get("comment", "")}
        for field in snapshot.schema["fields"]
    ]
    days = sorted({file.event_date for file in snapshot.files if file.event_date is not None})
    shown: dict[str, Any] = {"table": name, "version": snapshot.version, "rows": snapshot.rows, "columns": columns}
    if days:
        shown["days"] = {"first": str(days[0]), "last": str(days[-1]), "count": len(days)}
    if name == QUALITY:
        shown["outcomes"] = recent_outcomes(workspace)
    return shown


def _type(kind: Any) -> str:
    """A type of a table's schema as SQL writes it."""
    if isinstance(kind, str):
        return {"long": "bigint", "integer": "int"}.get(kind, kind)
    if kind["type"] == "array":
        return f"array<{_type(kind['elementType'])}>"
    if kind["type"] == "map":
        return f"map<{_type(kind['keyType'])},{_type(kind['valueType'])}>"
    return "struct<" + ",".join(f"{field['name']}:{_type(field['type'])}" for field in kind["fields"]) + ">"


def require(name: str, known: Any, kind: str, command: str) -> None:
    """Refuse a name that is not known, with the nearest one that is.

    Raises:
        InputError: It is not known.
    """
    if name not in known:
        near = difflib.get_close_matches(name, list(known), n=1)
        raise InputError(f"no {kind} {name!r}", hint=f"did you mean {near[0]}?" if near else f"see {command}")
