"""Does a file give the probabilities of the model that it was made from? On real rows, row by row."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ecdctr.data.batch import Batch
from ecdctr.exceptions import IntegrityError, NotReadyError
from ecdctr.features import FeatureSet
from ecdctr.models.base import CTRModel
from ecdctr.scoring.program import Predict
from ecdctr.scoring.serving import columns_of
from ecdctr.transfer.autoft import AutoFT

NEAR_HALF = 1e-5
"""A policy's probability that lies nearer to one half hangs on the last digits of a sum."""


@dataclass(frozen=True)
class Expected:
    """What a model gives for some rows.

    Attributes:
        probability: `(N,)`.
        tied: `(N,)`, true where a choice of AutoFT's policies is so near to even that another order of summing may turn it.
    """

    probability: NDArray[np.float64]
    tied: NDArray[np.bool_]


@dataclass(frozen=True)
class Parity:
    """How far a file is from its model.

    Attributes:
        rows: How many rows were compared.
        max_difference: Largest absolute difference of probabilities.
        tolerance: What it may be.
        tied_rows: Rows left out of it since a policy's choice for them is even within rounding.
        tied_max_difference: The largest difference among those.
    """

    rows: int
    max_difference: float
    tolerance: float
    tied_rows: int = 0
    tied_max_difference: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For reports and for the file itself."""
        return asdict(self)


@torch.no_grad()
def expected(model: CTRModel, batches: Iterable[Batch]) -> Expected:
    """Score rows as training scores them.

    Args:
        model: In evaluation.
        batches: With the historical embeddings that the model reads.

    Raises:
        NotReadyError: No rows.
    """
    probabilities, tied = [], []
    for batch in batches:
        probabilities.append(torch.sigmoid(model(batch).double()).numpy())
        near = np.zeros(len(batch), bool)
        if isinstance(model, AutoFT) and model.choice is not None:
            near = ((model.choice.probability - 0.5).abs() < NEAR_HALF).any(1).numpy()
        tied.append(near)
    if not sum(map(len, tied)):
        raise NotReadyError("no rows to compare the file with the model on", hint="ecdctr prepare, then export again")
    return Expected(np.concatenate(probabilities), np.concatenate(tied))


def check(
    predict: Predict, batches: Iterable[Batch], features: FeatureSet, wanted: Expected, tolerance: float
) -> Parity:
    """Compare a file with its model on the same rows.

    Args:
        predict: The file.
        batches: Those that `wanted` was computed from.
        features: The sample contract.
        wanted: Of the model.
        tolerance: Largest difference that is no fault.

    Raises:
        IntegrityError: A larger one, or a value that is no probability.
    """
    found = np.concatenate([predict(columns_of(batch, features)) for batch in batches])
    apart = np.abs(found - wanted.probability)
    sure = apart[~wanted.tied]
    largest = float(sure.max(initial=0.0))
    if not np.isfinite(found).all() or largest > tolerance:
        worst = int(np.argmax(np.where(wanted.tied, 0.0, np.nan_to_num(apart, nan=np.inf))))
        raise IntegrityError(
            f"the exported file differs from the model by {largest:.3g} in probability on {len(sure):,} rows, "
            f"{tolerance:.3g} is tolerated; the worst row has {found[worst]:.6g}, the model {wanted.probability[worst]:.6g}",
            hint="nothing was written; export without --compile, or with another --tolerance where that is enough for you",
        )
    return Parity(
        rows=len(sure), max_difference=largest, tolerance=tolerance, tied_rows=int(wanted.tied.sum()),
        tied_max_difference=float(apart[wanted.tied].max(initial=0.0)),
    )  # fmt: skip
