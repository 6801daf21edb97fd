"""Commands that do the work: from the machine's check to the comparison."""

import datetime as dt
import json
import logging
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from ecdctr.cli.command import DEFAULT_CONFIG, ConfigPath, Date, Json, Overrides, as_day, conclude, lines, load
from ecdctr.exceptions import AlreadyDone, InputError, NotReadyError

logger = logging.getLogger(__name__)

jobs = typer.Typer()


@jobs.command()
def doctor(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Leave out Spark and the ranks where they passed before with these versions."),
    ] = False,
    config: Annotated[Path | None, typer.Option("--config", help="Whose Spark is looked at, a YAML file.")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Check the machine, versions, Spark, Delta and a 2-rank all-reduce.

    Example: `ecdctr doctor --config conf/datasets/shop.yml`
    """

    def action() -> dict[str, Any]:
        from ecdctr.doctor import diagnose

        spark = load(config or DEFAULT_CONFIG, overrides).spark if config or overrides else None
        checks = diagnose(full=not quick, spark=spark)
        for check in checks:
            logger.log(
                logging.INFO if check.ok else logging.ERROR,
                "%-4s %-18s %s",
                "ok" if check.ok else "BAD",
                check.name,
                check.detail,
            )
            if check.ok and check.hint:
                logger.warning("     %-18s %s", "", check.hint)
        bad = [check for check in checks if not check.ok]
        if bad:
            raise InputError(
                f"{len(bad)} of {len(checks)} checks failed: {', '.join(check.name for check in bad)}",
                hint="; ".join(check.hint for check in bad if check.hint),
            )
        return {"checks": len(checks), "failed": 0}

    conclude("doctor", as_json, action, lambda result: f"all {result['checks']} checks passed")


@jobs.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder for the two logs.")],
    days: Annotated[int | None, typer.Option(help="Days of log; 60 where no config says otherwise.")] = None,
    users: Annotated[int | None, typer.Option(help="Users over the whole log; 20000.")] = None,
    items: Annotated[int | None, typer.Option(help="Natural items over the whole log; 4000.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same rows; 7.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Whose dataset.simulator and spark are meant, a YAML file.")
    ] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Write raw natural and ad logs of one seeded world.

    Example: `ecdctr simulate data/raw/world --days 60 --users 20000 --items 4000 --seed 7 --set dataset.simulator.ad_share=0.02`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.simulate import defaults, simulate_logs

        settings = None
        if config or overrides:
            settings = load(config or DEFAULT_CONFIG, [*([] if config else defaults()), *(overrides or [])])
        given = {"days": days, "users": users, "items": items, "seed": seed}
        return simulate_logs(out, settings, {name: value for name, value in given.items() if value is not None})

    conclude("simulate", as_json, action, lines)


@jobs.command()
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

        settings = load(config, overrides)
        end = as_day(until, "--until")
        with workspace(settings) as opened:
            done = prepare_tables(opened, end)
        # Where labels ripen, days that are there change each time: that is not what was asked for.
        if not done["days"] and end is not None and done["until"] < end:
            first, last = done["until"], end - dt.timedelta(days=1)
            raise NotReadyError(
                f"the logs have no rows of {first if first == last else f'{first} … {last}'} yet",
                hint="call again when they have come",
            )
        if not (done["days"] or done["changed"] or done["quarantined"]):
            raise AlreadyDone(f"all days before {done['until']} are prepared, and the logs say nothing new of them")
        return done

    conclude("prepare", as_json, action, lines)


@jobs.command()
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

        settings = load(config, overrides)
        day = as_day(date, "--date")
        assert day is not None
        with workspace(settings) as opened:
            return train_one(opened, level, day, only_due=if_due)

    conclude(f"train {level}", as_json, action, lines)


@jobs.command()
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

        settings = load(config, overrides)
        return run_all(settings, as_day(since, "--from"), as_day(until, "--until"))

    conclude("run", as_json, action, lambda result: str(result["table"]))


@jobs.command()
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

        settings = load(config, overrides)
        with workspace(settings) as opened:
            window = walk_window(settings, opened, as_day(since, "--from"), as_day(until, "--until"))
            found = metrics(opened, *window)
        return {
            "from": str(window[0]),
            "until": str(window[1]),
            "pooled": found.pooled,
            "differences": found.differences,
        }

    conclude("evaluate", as_json, action, lambda result: json.dumps(result, indent=1))


@jobs.command()
def compare(
    config: ConfigPath = DEFAULT_CONFIG,
    arms: Annotated[
        str | None, typer.Option("--arms", help="Names with commas between; by default those of the config.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds of every arm, from the config's on.")] = 3,
    since: Annotated[str | None, typer.Option("--from", help="First day to walk.")] = None,
    until: Date = None,
    forgetting_days: Annotated[
        int | None,
        typer.Option(
            help="Days before the walk with rows held out to measure forgetting; 0: none; by default the config's holdout, else 3."
        ),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(help="Settings tried for every arm on days before the walk, the best walked; 0: as configured."),
    ] = 0,
    tuning_days: Annotated[int, typer.Option(help="Days before the walk that trials are scored on.")] = 3,
    parallel: Annotated[
        int | None,
        typer.Option(help="Walks at once, each with ranks of its own; by default cores / (ranks x threads per rank)."),
    ] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Arms × seeds, walked forward over the same days, with intervals; goes on where it stopped.

    Example: `ecdctr compare --config conf/datasets/kuairand_tabs.yml --arms ecdctr,finetune,target_only --seeds 3`
    """

    def action() -> dict[str, Any]:
        from ecdctr.pipelines.compare import compare_arms

        chosen = [] if arms is None else [f"arms=[{arms}]"]
        settings = load(config, [*(overrides or []), *chosen])
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
        called += ["--parallel", str(parallel)] if parallel is not None else []
        called += ["--forgetting-days", str(forgetting_days)] if forgetting_days is not None else []
        called += [part for text in overrides or [] for part in ("--set", text)]
        return compare_arms(
            settings, seeds, as_day(since, "--from"), as_day(until, "--until"),
            forgetting_days=forgetting_days, trials=trials, tuning_days=tuning_days, parallel=parallel,
            command=shlex.join(called),
        )  # fmt: skip

    conclude("compare", as_json, action, lambda result: str(result["table"]))
