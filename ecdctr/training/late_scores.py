"""Scores of a version for rows that were not there when it was published."""

from pathlib import Path
from typing import Any

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair

from ecdctr.data.reader import iterate
from ecdctr.distributed.collective import Collective
from ecdctr.distributed.through_host import for_device
from ecdctr.models.base import CTRModel
from ecdctr.training.device import device_of, move
from ecdctr.training.level_batches import plan_rows
from ecdctr.training.level_loop import LOOK_ROWS
from ecdctr.training.predict import write_predictions
from ecdctr.training.published import open_version
from ecdctr.training.table_plan import deal_tables
from ecdctr.training.task import ScoringTask


def score_published(collective: Collective, task: ScoringTask) -> dict[str, Any]:
    """Write the scores that the version would have written had the rows been there.

    Args:
        collective: The ranks that score together.
        task: Version and rows, equal on all ranks.

    Returns:
        How many rows there are.

    Raises:
        IntegrityError: The version does not say how it is built, or a snapshot that it reads is missing.
    """
    store = Path(task.store)
    device = device_of(task.training.device, collective.local_rank)
    ranks = for_device(collective, device)

    def place(model: CTRModel) -> None:
        model.attach(ranks)
        move(model, device)
        deal_tables(model, task.training, ranks)

    version = open_version(store / task.version, store, place)
    batches = iterate(
        plan_rows(task, [task.files], epoch=0, shuffle=False), ranks.rank, ranks.size, version.features, LOOK_ROWS,
        names=True, finish=version.finish,
    )  # fmt: skip
    write_predictions(version.model, batches, Path(task.score_dir), ranks)
    return {"rows": task.files.rows}
