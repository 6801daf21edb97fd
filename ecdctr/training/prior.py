"""The click rate of the rows that a level trains on, as log-odds."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ecdctr.distributed.collective import Collective
from ecdctr.exceptions import InputError
from ecdctr.training.task import Files


def click_log_odds(files: Files, collective: Collective) -> float:
    """ln(p / (1 - p)) of the weighted click rate p, with one click and one other row added.

    Each rank reads the labels of its share of the files; the sums are exchanged.

    Args:
        files: The training rows.
        collective: The ranks.

    Raises:
        InputError: A file is missing or damaged.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    for path, _ in files.files[collective.rank :: collective.size]:
        constants = files.constants
        try:
            table = pq.ParquetFile(path).read([name for name in ("label", "weight") if name not in constants])
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} is missing, or damaged: {error}", hint="write that day again") from error
        label, weight = (
            np.full(table.num_rows, constants[name]) if name in constants else table[name].to_numpy().astype("float64")
            for name in ("label", "weight")
        )
        sums += torch.tensor([(label * weight).sum(), ((1 - label) * weight).sum()], dtype=torch.float64)
    collective.all_reduce_(sums)
    clicks, others = (float(value) for value in sums + 1.0)
    return math.log(clicks / others)
