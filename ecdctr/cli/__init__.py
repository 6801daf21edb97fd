"""The command line: arguments → config → one pipeline function → exit code and, with `--json`, one JSON line."""

import sys
from typing import Annotated

import typer

from ecdctr import __version__
from ecdctr.cli.export import exports
from ecdctr.cli.jobs import jobs
from ecdctr.cli.models import models
from ecdctr.cli.score import scores
from ecdctr.cli.tables import tables

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False,
    help="Cross-domain click-through-rate training: natural content teaches the ad model.",
)  # fmt: skip
app.add_typer(jobs)
app.add_typer(scores)
app.add_typer(exports)
app.add_typer(models, name="models")
app.add_typer(tables, name="tables")


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Cross-domain click-through-rate training."""
    if show:
        sys.stdout.write(__version__ + "\n")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script and of `jobs/*.py`."""
    app(args=arguments, prog_name="ecdctr")
