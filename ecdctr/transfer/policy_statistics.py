"""How often policies took the tuned way, by decision and by how active a user is."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pandas.util import hash_array

from ecdctr.data.batch import Batch
from ecdctr.distributed.collective import Collective
from ecdctr.metrics import activity_buckets
from ecdctr.transfer.autoft import AutoFT


class PolicyStatistics:
    """Collected on each rank while a day is scored, then summed over ranks.

    Args:
        model: Whose choices are counted.
        day: The day, since 1970: what else is scored beside it are held-out rows of other days; None: all rows count.
    """

    def __init__(self, model: AutoFT, day: int | None = None) -> None:
        self.model, self.day = model, day
        self._users: list[NDArray[np.uint64]] = []
        self._taken: list[NDArray[np.float64]] = []

    def add(self, batch: Batch) -> None:
        """Count the choices of the batch that the model has scored last; it must name its users."""
        assert self.model.choice is not None
        assert batch.user is not None
        scored = np.ones(len(batch), bool) if self.day is None else batch.day.cpu().numpy() == self.day
        # Hashed, since user ids of all ranks are compared, and a number travels better than a name.
        self._users.append(hash_array(np.array(batch.user, dtype=object), categorize=False)[scored])
        self._taken.append(self.model.choice.taken.double().cpu().numpy()[scored])

    def gather(self, collective: Collective) -> dict[str, Any]:
        """Figures over the day's rows of all ranks, the same on each.

        Returns:
            `decisions`: names in order; `rows` and `tuned`: by activity, that is by how many of the day's rows are the
            user's, the number of rows and for each decision the share of rows that were sent the tuned way.
        """
        users = np.concatenate([np.zeros(0, np.uint64), *self._users])
        taken = np.concatenate([np.zeros((0, len(self.model.names))), *self._taken])
        everybody = collective.all_gather(torch.from_numpy(users.view(np.int64))).numpy().view(np.uint64)
        known, rows = np.unique(everybody, return_counts=True)
        bucket, names = activity_buckets(rows[np.searchsorted(known, users)])
        sums = torch.zeros(len(names), 1 + taken.shape[1], dtype=torch.float64)
        sums.index_add_(0, torch.from_numpy(bucket), torch.from_numpy(np.column_stack([np.ones(len(users)), taken])))
        collective.all_reduce_(sums)
        found = {name: row for name, row in zip(names, sums.tolist(), strict=True) if row[0]}
        return {
            "decisions": self.model.names,
            "rows": {name: int(row[0]) for name, row in found.items()},
            "tuned": {name: [amount / row[0] for amount in row[1:]] for name, row in found.items()},
        }
