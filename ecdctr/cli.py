"""The command line: arguments → config → one pipeline function → exit code and, with `--json`, one JSON line."""

import datetime as dt
import io
import json
import logging
import shlex
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ecdctr import __version__, log
from ecdctr.config import Config, load_config
from ecdctr.exceptions import AlreadyDone, EcdctrError, InputError, NotReadyError

logger = logging.getLogger(__name__)

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False,
    help="Cross-domain click-through-rate training: natural content teaches the ad model.",
)  # fmt: skip
models = typer.Typer(no_args_is_help=True, help="Published versions: the ledger.")
tables = typer.Typer(no_args_is_help=True, help="Delta tables of the warehouse.")
app.add_typer(models, name="models")
app.add_typer(tables, name="tables")

ConfigPath = Annotated[Path, typer.Option("--config", help="A YAML file, or a folder of overlays.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="key.path=value, over the config; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON line on stdout; the log goes to stderr.")]
Date = Annotated[str | None, typer.Option(help="A day, YYYY-MM-DD (UTC days unless the data set says otherwise).")]
DEFAULT_CONFIG = Path("conf/datasets/simulated.yml")

STATUS = {NotReadyError.exit_code: "not_ready", AlreadyDone.exit_code: "noop"}


class _Outcome:
    """Result of the running command, printed once at the end."""

    command = ""
    as_json = False


def _day(text: str | None, option: str) -> dt.date | None:
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{option} {text!r} is no day", hint="write YYYY-MM-DD, for example 2024-02-01") from error


def _run(
    command: str, as_json: bool, action: Callable[[], dict[str, Any]], text: Callable[[dict[str, Any]], str]
) -> None:
    """Run one command's pipeline function and leave with the contract's exit code."""
    log.configure()
    answer: dict[str, Any] = {
        "status": "ok",
        "command": command,
        "run_id": uuid.uuid4().hex[:12],
        "result": {},
        "error": None,
    }
    code = 0
    try:
        answer["result"] = action()
    except EcdctrError as error:
        code = error.exit_code
        answer["status"] = STATUS.get(code, "error")
        answer["error"] = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        logger.log(logging.INFO if code == AlreadyDone.exit_code else logging.ERROR, "%s", error)
    except KeyboardInterrupt:
        code = 75
        answer |= {
            "status": "error",
            "error": {"type": "KeyboardInterrupt", "message": "interrupted", "hint": "call again to go on"},
        }
        logger.error("interrupted; call again to go on")
    except Exception as error:
        code = 1
        answer |= {"status": "error", "error": {"type": type(error).__name__, "message": str(error), "hint": None}}
        logger.exception("%s failed", command)
    if as_json:
        sys.stdout.write(json.dumps(answer, default=str) + "\n")
    elif answer["result"]:
        sys.stdout.write(text(answer["result"]) + "\n")
    sys.stdout.flush()
    if code:
        raise typer.Exit(code)


def _lines(result: dict[str, Any]) -> str:
    return "\n".join(f"{key:<16} {value}" for key, value in result.items())


def _config(path: Path, overrides: list[str] | None) -> Config:
    return load_config(path, overrides or [])


@app.command()
def doctor(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Leave out Spark and the ranks where they passed before with these versions."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the machine, versions, Spark, Delta and a 2-rank all-reduce.

    Example: `ecdctr doctor`
    """

    def action() -> dict[str, Any]:
        from ecdctr.doctor import diagnose

        checks = diagnose(full=not quick)
        for check in checks:
            logger.log(
                logging.INFO if check.ok else logging.ERROR,
                "%-4s %-18s %s",
                "ok" if check.ok else "BAD",
                check.name,
                check.detail,
            )
        bad = [check for check in checks if not check.ok]
        if bad:
            raise InputError(
                f"{len(bad)} of {len(checks)} checks failed: {', '.join(check.name for check in bad)}",
                hint="; ".join(check.hint for check in bad if check.hint),
            )
        return {"checks": len(checks), "failed": 0}

    _run("doctor", as_json, action, lambda result: f"all {result['checks']} checks passed")


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder for the two logs.")],
    days: Annotated[int, typer.Option(help="Days of log.")] = 60,
    users: Annotated[int, typer.Option(help="Users over the whole log.")] = 20000,
    items: Annotated[int, typer.Option(help="Natural items over the whole log.")] = 4000,
    seed: Annotated[int, typer.Option(help="Same seed, same rows.")] = 7,
    as_json: Json = False,
) -> None:
    """Write raw natural and ad logs of one seeded world.

    Example: `ecdctr simulate data/raw/world --days 60 --users 20000 --items 4000 --seed 7`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.simulate import simulate_logs

        return simulate_logs(out, days=days, users=users, items=items, seed=seed)

    _run("simulate", as_json, action, _lines)


@app.command()
def prepare(
    config: ConfigPath = DEFAULT_CONFIG,
    until: Date = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Raw logs to Delta tables: impressions, vocabulary, samples. Each day is idempotent.

    Example: `ecdctr prepare --config conf/datasets/kuairand.yml --until 2022-05-09`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.prepare import prepare_tables
        from ecdctr.pipelines.workspace import workspace

        settings = _config(config, overrides)
        end = _day(until, "--until")
        with workspace(settings) as opened:
            done = prepare_tables(opened, end)
        if not (done["days"] or done["changed"] or done["quarantined"]):
            if end is not None and done["until"] < end:
                raise NotReadyError(
                    f"the logs have no rows of {done['until']} … {end - dt.timedelta(days=1)} yet",
                    hint="call again when they have come",
                )
            raise AlreadyDone(f"all days before {done['until']} are prepared, and the logs say nothing new of them")
        return done

    _run("prepare", as_json, action, _lines)


@app.command()
def train(
    level: Annotated[str, typer.Argument(help="tpm, cpm or actr")],
    date: Annotated[str, typer.Option(help="Train on the data strictly before this day.")],
    if_due: Annotated[
        bool, typer.Option("--if-due", help="Only where the level's own clock asks for it; else exit code 4.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Train one level on the data strictly before a day and publish a version.

    Example: `ecdctr train cpm --date 2024-02-01`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.train import train_one
        from ecdctr.pipelines.workspace import workspace

        settings = _config(config, overrides)
        day = _day(date, "--date")
        assert day is not None
        with workspace(settings) as opened:
            return train_one(opened, level, day, only_due=if_due)

    _run(f"train {level}", as_json, action, _lines)


@app.command()
def run(
    config: ConfigPath = DEFAULT_CONFIG,
    since: Annotated[str | None, typer.Option("--from", help="First day to walk.")] = None,
    until: Date = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Every step that is due, level by level, each by its own clock; goes on where it stopped.

    Example: `ecdctr run --config conf/datasets/kuairand_tabs.yml`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.run import run_all

        settings = _config(config, overrides)
        return run_all(settings, _day(since, "--from"), _day(until, "--until"))

    _run("run", as_json, action, lambda result: str(result["table"]))


@app.command()
def evaluate(
    config: ConfigPath = DEFAULT_CONFIG,
    since: Annotated[str | None, typer.Option("--from", help="First day.")] = None,
    until: Date = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Walk-forward metrics from stored predictions.

    Example: `ecdctr evaluate --from 2024-02-01 --until 2024-02-08`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.daily import walk_window
        from ecdctr.pipelines.evaluate import evaluate as metrics
        from ecdctr.pipelines.workspace import workspace

        settings = _config(config, overrides)
        with workspace(settings) as opened:
            window = walk_window(settings, opened, _day(since, "--from"), _day(until, "--until"))
            found = metrics(opened, *window)
        return {
            "from": str(window[0]),
            "until": str(window[1]),
            "pooled": found.pooled,
            "differences": found.differences,
        }

    _run("evaluate", as_json, action, lambda result: json.dumps(result, indent=1))


@app.command()
def compare(
    config: ConfigPath = DEFAULT_CONFIG,
    arms: Annotated[
        str | None, typer.Option("--arms", help="Names with commas between; by default those of the config.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds of every arm, from the config's on.")] = 3,
    since: Annotated[str | None, typer.Option("--from", help="First day to walk.")] = None,
    until: Date = None,
    forgetting_days: Annotated[
        int, typer.Option(help="Days before the walk with rows held out to measure forgetting; 0: none.")
    ] = 3,
    trials: Annotated[
        int,
        typer.Option(help="Settings tried for every arm on days before the walk, the best walked; 0: as configured."),
    ] = 0,
    tuning_days: Annotated[int, typer.Option(help="Days before the walk that trials are scored on.")] = 3,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Arms × seeds, walked forward over the same days, with intervals; goes on where it stopped.

    Example: `ecdctr compare --config conf/datasets/kuairand_tabs.yml --arms ecdctr,finetune,target_only --seeds 3`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.compare import compare_arms

        chosen = [] if arms is None else [f"arms=[{arms}]"]
        settings = _config(config, [*(overrides or []), *chosen])
        called = [
            "ecdctr",
            "compare",
            "--config",
            str(config),
            "--arms",
            ",".join(settings.arms),
            "--seeds",
            str(seeds),
        ]
        called += [part for option, day in (("--from", since), ("--until", until)) if day for part in (option, day)]
        called += ["--trials", str(trials), "--tuning-days", str(tuning_days)] if trials else []
        called += ["--forgetting-days", str(forgetting_days), *(p for text in overrides or [] for p in ("--set", text))]
        return compare_arms(
            settings, seeds, _day(since, "--from"), _day(until, "--until"),
            forgetting_days=forgetting_days, trials=trials, tuning_days=tuning_days, command=shlex.join(called),
        )  # fmt: skip

    _run("compare", as_json, action, lambda result: str(result["table"]))


@models.command("list")
def models_list(config: ConfigPath = DEFAULT_CONFIG, overrides: Overrides = None, as_json: Json = False) -> None:
    """All published versions, oldest first.

    Example: `ecdctr models list --config conf/datasets/kuairand.yml`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.inspect import list_models
        from ecdctr.pipelines.workspace import workspace

        with workspace(_config(config, overrides)) as opened:
            return {"versions": list_models(opened)}

    _run("models list", as_json, action, lambda result: _table(result["versions"]))


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

        with workspace(_config(config, overrides)) as opened:
            return show_model(opened, version)

    _run("models show", as_json, action, _lines)


@tables.command("list")
def tables_list(config: ConfigPath = DEFAULT_CONFIG, overrides: Overrides = None, as_json: Json = False) -> None:
    """All tables of the warehouse with version, rows, bytes and files.

    Example: `ecdctr tables list`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.inspect import list_tables
        from ecdctr.pipelines.workspace import workspace

        with workspace(_config(config, overrides)) as opened:
            return {"tables": list_tables(opened)}

    _run("tables list", as_json, action, lambda result: _table(result["tables"]))


@tables.command("show")
def tables_show(
    name: str, config: ConfigPath = DEFAULT_CONFIG, overrides: Overrides = None, as_json: Json = False
) -> None:
    """One table: its columns with their meaning, its days; of `data_quality` also what the checks found.

    Example: `ecdctr tables show data_quality`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.inspect import show_table
        from ecdctr.pipelines.workspace import workspace

        with workspace(_config(config, overrides)) as opened:
            return show_table(opened, name)

    def shown(result: dict[str, Any]) -> str:
        days = result.get("days")
        span = f", {days['count']} days from {days['first']} to {days['last']}" if days else ""
        head = f"{result['table']}: version {result['version']}, {result['rows']:,} rows{span}"
        parts = [head, _table(result["columns"]), *([_table(result["outcomes"])] if "outcomes" in result else [])]
        return "\n".join(parts)

    _run("tables show", as_json, action, shown)


@tables.command("vacuum")
def tables_vacuum(
    yes: Annotated[bool, typer.Option("--yes/--dry-run", help="Remove the files; by default only say which.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Remove files that no live model, running job or recent version needs; says first what it would remove.

    Example: `ecdctr tables vacuum --config conf/datasets/kuairand.yml --yes`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.maintain import vacuum
        from ecdctr.pipelines.workspace import workspace

        with workspace(_config(config, overrides)) as opened:
            return vacuum(opened, remove=yes)

    def shown(result: dict[str, Any]) -> str:
        last = "removed" if result["removed"] else "nothing is removed yet; --yes removes these files"
        return f"{_table(result['tables'])}\n{result['live_models']} live models; {last}"

    _run("tables vacuum", as_json, action, shown)


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

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.maintain import compact_tables, renew_vocabulary
        from ecdctr.pipelines.workspace import workspace

        with workspace(_config(config, overrides)) as opened:
            return renew_vocabulary(opened) if vocabulary else compact_tables(opened)

    def shown(result: dict[str, Any]) -> str:
        return _lines(result) if vocabulary else _table(result["tables"])

    _run("tables compact", as_json, action, shown)


def _table(rows: list[dict[str, Any]]) -> str:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return "none"
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    # Names from data are no markup.
    console = Console(width=160, file=io.StringIO(), markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Cross-domain click-through-rate training."""
    if show:
        sys.stdout.write(__version__ + "\n")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script and of `jobs/*.py`."""
    app(args=arguments, prog_name="ecdctr")
