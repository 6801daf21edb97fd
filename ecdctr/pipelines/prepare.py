"""Raw logs → Delta tables: impressions, vocabulary, samples."""

import dataclasses
import datetime as dt
import logging
from pathlib import Path
from typing import Any

from ecdctr.datasets.simulator import simulate
from ecdctr.etl.prepare import prepare
from ecdctr.pipelines.workspace import Workspace

logger = logging.getLogger(__name__)


def prepare_tables(workspace: Workspace, until: dt.date | None) -> dict[str, Any]:
    """Bring all tables up to the day before `until`; days that are there already are left as they are.

    Args:
        workspace: The opened workspace.
        until: First day that is left out; None: all days of the logs.

    Returns:
        Days, rows and seconds of each stage.
    """
    config = workspace.config
    if config.dataset.simulator is not None:
        folder = Path(config.dataset.natural.path).parent
        logger.info("simulating %d days of logs into %s", config.dataset.simulator.days, folder)
        simulate(workspace.spark, folder, config.dataset.simulator)
    summary = prepare(lambda: workspace.spark, config, until, workspace.hooks)
    workspace.forget_pins()
    return dataclasses.asdict(summary)
