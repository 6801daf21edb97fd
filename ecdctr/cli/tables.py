"""`ecdctr tables`: look at the warehouse, clean it up."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecdctr.cli.command import (
    DEFAULT_CONFIG,
    ConfigPath,
    Json,
    Overrides,
    as_list,
    as_table,
    conclude_in_workspace,
    lines,
)

if TYPE_CHECKING:
    from ecdctr.pipelines.workspace import Workspace

tables = typer.Typer(no_args_is_help=True, help="Delta tables of the warehouse.")


@tables.command("list")
def tables_list(config: ConfigPath = DEFAULT_CONFIG, overrides: Overrides = None, as_json: Json = False) -> None:
    """All tables of the warehouse with version, rows, bytes and files.

    Example: `ecdctr tables list`
    """

    def action(opened: "Workspace") -> dict[str, Any]:
        from ecdctr.pipelines.inspect import list_tables

        return {"warehouse": str(opened.root), "tables": list_tables(opened)}

    conclude_in_workspace("tables list", config, overrides, as_json, action, lambda result: as_list(result, "tables"))


@tables.command("show")
def tables_show(
    name: str, config: ConfigPath = DEFAULT_CONFIG, overrides: Overrides = None, as_json: Json = False
) -> None:
    """One table: its columns with their meaning, its days; of `data_quality` also what the checks found.

    Example: `ecdctr tables show data_quality`
    """

    def action(opened: "Workspace") -> dict[str, Any]:
        from ecdctr.pipelines.inspect import show_table

        return show_table(opened, name)

    def shown(result: dict[str, Any]) -> str:
        days = result.get("days")
        span = f", {days['count']} days from {days['first']} to {days['last']}" if days else ""
        head = f"{result['table']}: version {result['version']}, {result['rows']:,} rows{span}"
        parts = [head, as_table(result["columns"]), *([as_table(result["outcomes"])] if "outcomes" in result else [])]
        return "\n".join(parts)

    conclude_in_workspace("tables show", config, overrides, as_json, action, shown)


@tables.command("vacuum")
def tables_vacuum(
    yes: Annotated[bool, typer.Option("--yes/--dry-run", help="Remove the files; by default only say which.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Remove files that no live model, running job or recent version needs, and versions out of use; says first what it would remove.

    Example: `ecdctr tables vacuum --config conf/datasets/kuairand.yml --yes`
    """

    def action(opened: "Workspace") -> dict[str, Any]:
        from ecdctr.pipelines.maintain import vacuum

        return vacuum(opened, remove=yes)

    def shown(result: dict[str, Any]) -> str:
        last = "removed" if result["removed"] else "nothing is removed yet; --yes removes these files"
        old = "{count} versions out of use ({bytes:,} bytes)".format(**result["versions"])
        left = "{folders} folders of trainings and commands that were given up ({bytes:,} bytes)".format(
            **result["leftovers"]
        )
        return f"{as_table(result['tables'])}\n{result['live_models']} live models; {old}; {left}; {last}"

    conclude_in_workspace("tables vacuum", config, overrides, as_json, action, shown)


@tables.command("compact")
def tables_compact(
    config: ConfigPath = DEFAULT_CONFIG,
    vocabulary: Annotated[
        bool, typer.Option("--vocabulary", help="Drop expired tokens and deal ids anew; models must be trained anew.")
    ] = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Write the many small files of the ledger, predictions and other small tables together.

    Example: `ecdctr tables compact`
    """

    def action(opened: "Workspace") -> dict[str, Any]:
        from ecdctr.pipelines.maintain import compact_tables, renew_vocabulary

        return renew_vocabulary(opened) if vocabulary else compact_tables(opened)

    def shown(result: dict[str, Any]) -> str:
        return lines(result) if vocabulary else as_table(result["tables"])

    conclude_in_workspace("tables compact", config, overrides, as_json, action, shown)
