"""Score batches on every rank and write what each rank has scored."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ecdctr.artifacts.files import new_folder
from ecdctr.data.batch import Batch
from ecdctr.distributed.collective import Collective
from ecdctr.models.base import CTRModel

SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("user_id", pa.string()),
        ("day", pa.int32()),
        ("label", pa.float32()),
        ("probability", pa.float64()),
    ]
)


def write_predictions(
    model: CTRModel,
    batches: Iterable[Batch],
    folder: Path,
    collective: Collective,
    scored: Callable[[Batch], None] = lambda batch: None,
) -> None:
    """Write one Parquet file of click probabilities per rank, below `folder`.

    Args:
        model: The model to score with; it is set to evaluation.
        batches: This rank's rows, with their event and user ids.
        folder: Gets `rank-R/scores.parquet`; an earlier one of the same rank is replaced.
        collective: The ranks; all have written when this returns.
        scored: Told of each batch right after the model has scored it.
    """
    model.eval()
    tables = []
    for batch in batches:
        tables.append(_score(model, batch))
        scored(batch)
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    with new_folder(folder / f"rank-{collective.rank}") as target:
        pq.write_table(table, target / "scores.parquet")
    collective.barrier()


@torch.no_grad()
def _score(model: CTRModel, batch: Batch) -> pa.Table:
    probabilities = torch.sigmoid(model(batch.to(model.tables.device)).double()).cpu().numpy()
    columns = [
        pa.array(batch.event_id or [], pa.string()),
        pa.array(batch.user or [], pa.string()),
        pa.array(batch.day.numpy().astype(np.int32)),
        pa.array(batch.label.numpy()),
        pa.array(probabilities),
    ]
    return pa.table(columns, schema=SCHEMA)
