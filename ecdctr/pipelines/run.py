"""The main job: logs → tables → three levels day by day → metrics and a report."""

import datetime as dt
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecdctr import __version__
from ecdctr.config import Config
from ecdctr.etl.source import matches
from ecdctr.pipelines.daily import walk, walk_window
from ecdctr.pipelines.evaluate import evaluate
from ecdctr.pipelines.finished import finished_answer, write_state
from ecdctr.pipelines.prepare import prepare_tables
from ecdctr.pipelines.summarize import summarize
from ecdctr.pipelines.workspace import workspace
from ecdctr.report import render_table, write_report
from ecdctr.report.schema import Report

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger(__name__)

STATE = "run.json"


def run_all(
    config: Config, since: dt.date | None = None, until: dt.date | None = None, *, spark: "SparkSession | None" = None
) -> dict[str, Any]:
    """Run every step that is due and write `runs/NAME/report.json` and `report.html`.

    Steps that are done are not done again: tables and versions say so themselves. A run that is finished prints its
    table without starting Spark.

    Args:
        config: The configuration.
        since: First day to walk; by default the last `walk_days` days of the ad log.
        until: The day after the last walked one.
        spark: A session to use, for notebooks.

    Returns:
        The report's path and the closing table.
    """
    asked = {
        "config_digest": config.digest(), "code_version": __version__, "from": str(since), "until": str(until),
        "inputs": input_stamp(config),
    }  # fmt: skip
    finished = _finished(config, asked)
    if finished is not None:
        logger.info("this run is finished; FRESH=1 (make) or another --set name=… starts over")
        return _result(config, finished)
    started = time.perf_counter()
    with workspace(config, spark) as opened:
        logger.info("preparing tables in %s", config.warehouse_dir)
        prepare_tables(opened, until)
        prepared = time.perf_counter()
        window = walk_window(config, opened, since, until)
        logger.info(
            "walking the ad days %s … %s with %d ranks", window[0], window[1] - dt.timedelta(days=1), config.ranks
        )
        done = walk(opened, *window)
        walked = time.perf_counter()
        evaluation = evaluate(opened, *window)
        seconds = {
            "prepare": prepared - started, **done.seconds, "evaluate": time.perf_counter() - walked,
            "total": time.perf_counter() - started,
        }  # fmt: skip
        report = summarize(opened, window, evaluation, {name: round(value, 3) for name, value in seconds.items()})
    digests = write_report(report, config.run_dir)
    write_state(config.run_dir / STATE, asked, digests["report.json"])
    return _result(config, report)


def _result(config: Config, report: Report) -> dict[str, Any]:
    path = config.run_dir / "report.html"
    return {"report": str(path), "pooled": report.pooled.model_dump(), "table": render_table(report, path)}


def _finished(config: Config, asked: dict[str, Any]) -> Report | None:
    answer = finished_answer(config.run_dir / STATE, asked, config.run_dir / "report.json")
    try:
        return Report.model_validate_json(answer) if answer is not None else None
    except ValueError:
        # Written by code that knew another form of it.
        return None


def input_stamp(config: Config) -> list[list[Any]]:
    """Names, sizes and times of the input files: a changed log is another run.

    Files that are not local tell nothing of that, so their stamp is never the same; the preparation looks for itself.
    """
    stamp: list[list[Any]] = []
    for source in (config.dataset.natural, config.dataset.ads):
        clicks = [source.clicks.path] if source.clicks else []
        for name in (source.path, *clicks, *(side.path for side in source.side_tables)):
            if "://" in name:
                stamp.append([name, time.time_ns()])
                continue
            roots = matches(name)
            files = [file for root in roots for file in (sorted(root.rglob("*")) if root.is_dir() else [root])]
            stamp.append([name, len(files), sum(f.stat().st_size for f in files if f.is_file()), _newest(files)])
    return stamp if config.dataset.simulator is None else []


def _newest(files: list[Path]) -> int:
    return max((file.stat().st_mtime_ns for file in files if file.exists()), default=0)
