"""`ecdctr score`: click probabilities for a table of ads, by the version that serves."""

from typing import Annotated, Any

import typer

from ecdctr.cli.command import DEFAULT_CONFIG, ConfigPath, Json, Overrides, as_day, conclude, lines, load

scores = typer.Typer()


@scores.command()
def score(
    date: Annotated[str, typer.Option(help="Score the rows of this day; nothing of it need be prepared.")],
    given: Annotated[
        str,
        typer.Option("--input", help="Rows with the columns of the ad log: Delta, Parquet or CSV; no label is needed."),
    ],
    out: Annotated[
        str, typer.Option("--output", help="Folder of a Delta table; the day's rows in it are replaced, others stay.")
    ],
    version: Annotated[
        str | None, typer.Option(help="By default what the alias serving means, else the newest of the arm.")
    ] = None,
    arm: Annotated[str | None, typer.Option(help="Its newest version; by default the first one of the config.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Batch scoring on Spark: rows of one day, encoded as in training, by the version that serves.

    Example: `ecdctr score --date 2024-02-01 --input data/raw/today --output runs/scores`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.score import score_table
        from ecdctr.pipelines.workspace import workspace

        settings = load(config, overrides)
        day = as_day(date, "--date")
        assert day is not None
        with workspace(settings) as opened:
            return score_table(opened, day, given, out, version=version, arm=arm)

    conclude("score", as_json, action, lines)
