"""`compare`: arms × seeds, each walked forward over the same days, and what they differ by, with intervals."""

import datetime as dt
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ecdctr import __version__
from ecdctr.config import Config
from ecdctr.config.schema import HoldoutConfig
from ecdctr.exceptions import InputError
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.compare_tuning import Settings, tune, with_training
from ecdctr.pipelines.cost import cost, mean_cost, train_seconds
from ecdctr.pipelines.daily import walk_window
from ecdctr.pipelines.differences import differences
from ecdctr.pipelines.finished import finished_answer, write_state
from ecdctr.pipelines.forgetting import forgetting
from ecdctr.pipelines.holdout import FORGETTING_DAYS, holdout_of_walk
from ecdctr.pipelines.prepare import prepare_tables
from ecdctr.pipelines.run import input_stamp
from ecdctr.pipelines.scored import load_scored
from ecdctr.pipelines.summarize import dataset_facts, versions_of_walk
from ecdctr.pipelines.walks import Outing, lanes_for, run_walks
from ecdctr.pipelines.workspace import Workspace, workspace
from ecdctr.report.comparison import Comparison
from ecdctr.report.comparison_html import render_comparison_html
from ecdctr.report.comparison_table import render_comparison_table
from ecdctr.report.write import as_json, write_files

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger(__name__)

STATE = "compare_state.json"
Window = tuple[dt.date, dt.date]
Chosen = dict[str, Settings]
"""By arm, settings of its training that the search has chosen."""


def compare_arms(
    config: Config,
    seeds: int = 3,
    since: dt.date | None = None,
    until: dt.date | None = None,
    *,
    forgetting_days: int | None = None,
    trials: int = 0,
    tuning_days: int = 3,
    parallel: int | None = None,
    command: str = "",
    spark: "SparkSession | None" = None,
) -> dict[str, Any]:
    """Walk every arm of the configuration with every seed, and write `runs/NAME/compare.json` and `compare.html`.

    Tables are prepared once. Levels are found by what decides them: arms and seeds share a TPM or CPM version wherever
    they agree on it, and a call goes on where an earlier one, of whatever arms, has stopped.

    Args:
        config: The configuration; its seed is the first one.
        seeds: How many seeds.
        since: First day to walk; by default the last `walk_days` days of the ad log.
        until: The day after the last walked one.
        forgetting_days: Days before the walk of which one lane is held out from A-CTR's training, so that forgetting can
            be measured; 0: none; None: `holdout` of the configuration, else three.
        trials: For each arm, settings that are tried on the days before the walk, the configured ones first; the best are
            walked. 0: every arm is walked as configured.
        tuning_days: Days that they are tried on.
        parallel: Walks at once; None: as many as the cores hold. It changes no figure but seconds.
        command: For the report: what was called.
        spark: A session to use, for notebooks.

    Returns:
        Paths of both files, pooled means by arm, differences, and the closing table.

    Raises:
        InputError: No seed, fewer than no days or trials, no day to tune on, held-out days that reach into the walk or are not those
            of the configuration, several walks at once on a cluster.
    """
    days = FORGETTING_DAYS if forgetting_days is None else forgetting_days
    if seeds < 1 or days < 0 or trials < 0 or tuning_days < 1:
        raise InputError(
            f"{seeds} seeds, {days} days for forgetting, {trials} trials on {tuning_days} days were asked for",
            hint="give 1, 0, 0 and 1, or more",
        )
    asked = {
        "config_digest": config.digest(), "code_version": __version__, "seeds": seeds, "from": str(since),
        "until": str(until), "forgetting_days": forgetting_days, "trials": trials,
        "tuning_days": tuning_days if trials else 0, "inputs": input_stamp(config),
    }  # fmt: skip
    finished = _finished(config, asked)
    if finished is not None:
        logger.info("this comparison is finished; its files are in %s", config.run_dir)
        return _result(config, finished)
    seconds: dict[str, float] = {}
    with workspace(config, spark) as opened:
        lanes = lanes_for(opened, parallel)
        with _timed(seconds, "prepare"):
            prepare_tables(opened, until)
        window = walk_window(config, opened, since, until)
        holdout = holdout_of_walk(config.holdout, window[0], forgetting_days, opened.first_day("ad_samples"))
        with _timed(seconds, "tune"):
            tuning = tune(opened, config, window[0], trials, tuning_days, lanes) if trials else {}
        variants = _variants(config, seeds, holdout)
        chosen = {arm: found["trials"][found["chosen"]]["settings"] for arm, found in tuning.items()}
        with _timed(seconds, "walk"):
            run_walks(opened, _outings(variants, chosen), window, lanes)
        logger.info("evaluating %d arms with %d seeds", len(config.arms), seeds)
        with _timed(seconds, "evaluate"):
            found = _evaluate(opened, variants, window, chosen)
    for arm, told in tuning.items():
        found["arms"][arm]["tuning"] = told
    found |= {"command": command, "seconds": seconds | {"total": sum(seconds.values())}}
    comparison = Comparison.model_validate(found)
    digests = write_files(
        config.run_dir,
        {"compare.json": as_json(comparison.tree()), "compare.html": render_comparison_html(comparison)},
    )
    write_state(config.run_dir / STATE, asked, digests["compare.json"])
    return _result(config, comparison)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    since = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - since


def _variants(config: Config, seeds: int, holdout: HoldoutConfig | None) -> dict[int, Config]:
    """By seed, the configuration that is walked."""
    return {
        seed: config.model_copy(update={"seed": seed, "holdout": holdout})
        for seed in range(config.seed, config.seed + seeds)
    }


def _of_arm(config: Config, arm: str, chosen: Chosen) -> Config:
    """The configuration that an arm is walked with."""
    return with_training(config, arm, chosen[arm]) if chosen.get(arm) else config


def _outings(variants: dict[int, Config], chosen: Chosen) -> list[Outing]:
    """Every arm of every seed, in the order in which each is whole as early as possible."""
    return [
        Outing(_of_arm(config, arm, chosen).model_copy(update={"arms": [arm]}), f"{arm}, seed {seed}")
        for seed, config in variants.items()
        for arm in config.arms
    ]


def _evaluate(opened: Workspace, variants: dict[int, Config], window: Window, chosen: Chosen) -> dict[str, Any]:
    config = next(iter(variants.values()))
    scored = load_scored(opened, variants, *window, lambda config, arm: _of_arm(config, arm, chosen))
    arms: dict[str, Any] = {}
    for arm in config.arms:
        costs, seconds = [], []
        own = {seed: _of_arm(variant, arm, chosen) for seed, variant in variants.items()}
        for variant in own.values():
            with opened.using(variant.model_copy(update={"arms": [arm]})):
                versions = versions_of_walk(opened, window)
                costs.append(cost(opened, ARMS[arm], versions, *window))
                seconds.append(train_seconds(versions))
        arms[arm] = {
            "title": ARMS[arm].title,
            **scored.figures(arm),
            "forgetting": forgetting(opened, own, arm, *window),
            "train_seconds": sum(seconds) / len(seconds),
            "cost": mean_cost(costs),
        }
    return {
        "schema_version": 1,
        "run_id": f"{config.name}-{config.digest()[:12]}",
        "config_digest": config.digest(),
        "code_version": __version__,
        "ranks": config.ranks,
        "dataset": dataset_facts(opened),
        "description": config.dataset.description,
        "window": window,
        "seeds": list(variants),
        "arms": arms,
        "differences": differences(scored, config.arms, config.seed),
    }


def _result(config: Config, comparison: Comparison) -> dict[str, Any]:
    page = config.run_dir / "compare.html"
    return {
        "compare": str(config.run_dir / "compare.json"),
        "report": str(page),
        "mean": {name: arm.mean.model_dump() for name, arm in comparison.arms.items()},
        "differences": [difference.model_dump() for difference in comparison.differences],
        "table": render_comparison_table(comparison, page),
    }


def _finished(config: Config, asked: dict[str, Any]) -> Comparison | None:
    answer = finished_answer(config.run_dir / STATE, asked, config.run_dir / "compare.json")
    try:
        return Comparison.model_validate_json(answer) if answer is not None else None
    except ValueError:
        # Written by code that knew another form of it.
        return None
