"""`ecdctr models`: what the ledger knows, and which version serves."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecdctr.cli.command import DEFAULT_CONFIG, ConfigPath, Json, Overrides, as_list, conclude_in_workspace, lines

if TYPE_CHECKING:
    from ecdctr.pipelines.workspace import Workspace

models = typer.Typer(no_args_is_help=True, help="Published versions, and which of them serves: the ledger.")


@models.command("list")
def models_list(config: ConfigPath = DEFAULT_CONFIG, overrides: Overrides = None, as_json: Json = False) -> None:
    """All published versions, oldest first.

    Example: `ecdctr models list --config conf/datasets/kuairand.yml`
    """

    def action(opened: "Workspace") -> dict[str, Any]:
        from ecdctr.pipelines.inspect import list_models

        return {"warehouse": str(opened.root), "versions": list_models(opened)}

    conclude_in_workspace("models list", config, overrides, as_json, action, lambda result: as_list(result, "versions"))


@models.command("show")
def models_show(
    version: str, config: ConfigPath = DEFAULT_CONFIG, overrides: Overrides = None, as_json: Json = False
) -> None:
    """One version: parents, window, tables, figures.

    Example: `ecdctr models show actr-ecdctr-2024-02-01-0123456789`
    """

    def action(opened: "Workspace") -> dict[str, Any]:
        from ecdctr.pipelines.inspect import show_model

        return show_model(opened, version)

    conclude_in_workspace("models show", config, overrides, as_json, action, lines)


@models.command("promote")
def models_promote(
    version: str, config: ConfigPath = DEFAULT_CONFIG, overrides: Overrides = None, as_json: Json = False
) -> None:
    """Have a version of the ad model serve, after a check of all its files; exit code 4 where it serves already.

    Example: `ecdctr models promote actr-ecdctr-2024-02-01-0123456789`
    """

    def action(opened: "Workspace") -> dict[str, Any]:
        from ecdctr.pipelines.serving import promote

        return promote(opened, version)

    conclude_in_workspace("models promote", config, overrides, as_json, action, lines)


@models.command("rollback")
def models_rollback(
    left: Annotated[
        str | None,
        typer.Option(
            "--from", help="Only while this version serves, so that a repeated call goes back once; else exit code 4."
        ),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Have the version serve again that served before.

    Example: `ecdctr models rollback --from actr-ecdctr-2024-02-01-0123456789`
    """

    def action(opened: "Workspace") -> dict[str, Any]:
        from ecdctr.pipelines.serving import rollback

        return rollback(opened, left)

    conclude_in_workspace("models rollback", config, overrides, as_json, action, lines)
