"""`ecdctr export`: a published ad model as a file that serves."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecdctr.cli.command import DEFAULT_CONFIG, ConfigPath, Json, Overrides, as_table, conclude_in_workspace, lines

if TYPE_CHECKING:
    from ecdctr.pipelines.workspace import Workspace

exports = typer.Typer()


@exports.command()
def export(
    out: Annotated[
        Path, typer.Argument(help="The file to write; an earlier one is replaced once the new one is right.")
    ],
    level: Annotated[str, typer.Option(help="The level that serves: actr.")] = "actr",
    form: Annotated[str, typer.Option("--format", help="onnx, or pt2 (torch.export).")] = "onnx",
    version: Annotated[
        str | None, typer.Option(help="By default what the alias serving means, else the newest of the arm.")
    ] = None,
    arm: Annotated[str | None, typer.Option(help="By default the first one of the config.")] = None,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile/--no-compile", help="Leave out the copy that AutoFT's policies took for none of the rows."
        ),
    ] = True,
    rows: Annotated[
        int, typer.Option(help="Newest ad samples on which policies are judged and the file is held to the model.")
    ] = 20_000,
    tolerance: Annotated[float, typer.Option(help="Largest difference of a probability from the model's.")] = 1e-5,
    config: ConfigPath = DEFAULT_CONFIG,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """The serving model with aggregated embeddings, as one file, after a check on real rows.

    Example: `ecdctr export --level actr --format onnx runs/model.onnx`
    """

    def action(opened: "Workspace") -> dict[str, Any]:
        from ecdctr.pipelines.export import export_model

        return export_model(
            opened, out, form, level=level, version=version, arm=arm, compiled=compiled, rows=rows,
            tolerance=tolerance,
        )  # fmt: skip

    conclude_in_workspace("export", config, overrides, as_json, action, _text)


def _text(result: dict[str, Any]) -> str:
    parity, policies = result["parity"], result["policies"]
    shown = {name: result[name] for name in ("file", "version", "bytes", "parameters")}
    shown["inputs"] = ", ".join(result["inputs"])
    shown["parity"] = (
        f"{parity['max_difference']:.2g} is the largest difference on {parity['rows']:,} rows "
        f"({parity['tolerance']:.2g} is tolerated)"
    )
    if policies is None:
        return lines(shown)
    shown["decided by row"] = ", ".join(policies["open"]) or "nothing"
    dropped = as_table(policies["dropped"])
    return f"{lines(shown)}\ndropped, judged on {policies['rows']:,} rows:\n{dropped}"
