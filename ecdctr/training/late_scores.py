"""Scores of a version for rows that were not there when it was published."""

from pathlib import Path
from typing import Any

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair

from ecdctr.data.batch import Batch
from ecdctr.data.reader import iterate
from ecdctr.distributed.collective import Collective
from ecdctr.distributed.through_host import for_device
from ecdctr.training.device import device_of, move
from ecdctr.training.expiry import Expired
from ecdctr.training.level_batches import plan_rows
from ecdctr.training.level_loop import LOOK_ROWS
from ecdctr.training.predict import write_predictions
from ecdctr.training.structure import Structure
from ecdctr.training.table_plan import deal_tables
from ecdctr.training.task import ScoringTask
from ecdctr.training.versions import load_version


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
    folder = store / task.version
    device = device_of(task.training.device, collective.local_rank)
    collective = for_device(collective, device)
    structure = Structure.read(folder)
    model = structure.build()
    model.attach(collective)
    move(model, device)
    deal_tables(model, task.training, collective)
    load_version(model, folder)
    features = structure.feature_set()
    history, expired = structure.embeddings(store), Expired.of_version(folder, features)

    def finish(batch: Batch) -> Batch:
        # Expired ids are hidden after the historical vectors, which stay those of the ids.
        return expired.hide(batch if history is None else history.attach(batch))

    batches = iterate(
        plan_rows(task, [task.files], epoch=0, shuffle=False), collective.rank, collective.size, features, LOOK_ROWS,
        names=True, finish=finish,
    )  # fmt: skip
    write_predictions(model, batches, Path(task.score_dir), collective)
    return {"rows": task.files.rows}
