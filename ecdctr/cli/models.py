"""`ecdctr models`: what the ledger knows."""

from typing import Any

import typer

from ecdctr.cli.command import DEFAULT_CONFIG, ConfigPath, Json, Overrides, as_table, conclude, lines, load

models = typer.Typer(no_args_is_help=True, help="Published versions: the ledger.")


@models.command("list")
def models_list(config: ConfigPath = DEFAULT_CONFIG, overrides: Overrides = None, as_json: Json = False) -> None:
    """All published versions, oldest first.

    Example: `ecdctr models list --config conf/datasets/kuairand.yml`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.inspect import list_models
        from ecdctr.pipelines.workspace import workspace

        with workspace(load(config, overrides)) as opened:
            return {"versions": list_models(opened)}

    conclude("models list", as_json, action, lambda result: as_table(result["versions"]))


@models.command("show")
def models_show(
    version: str, config: ConfigPath = DEFAULT_CONFIG, overrides: Overrides = None, as_json: Json = False
) -> None:
    """One version: parents, window, tables, figures.

    Example: `ecdctr models show actr-ecdctr-2024-02-01-0123456789`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.inspect import show_model
        from ecdctr.pipelines.workspace import workspace

        with workspace(load(config, overrides)) as opened:
            return show_model(opened, version)

    conclude("models show", as_json, action, lines)
