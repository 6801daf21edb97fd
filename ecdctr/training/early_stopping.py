"""When to stop within several epochs: by a metric of days that follow the training rows and are known already."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch

from ecdctr.config.training import EarlyStoppingConfig
from ecdctr.data.batch import Batch
from ecdctr.distributed.collective import Collective
from ecdctr.metrics.summary import summary
from ecdctr.models.base import CTRModel

Look = dict[str, Any]
"""What was seen after an epoch: `epoch` from 1, `step`, `rows`, and `log_loss`, `auc`, `gauc`; None where undefined."""


@torch.no_grad()
def look(model: CTRModel, batches: Iterable[Batch], collective: Collective) -> Look:
    """Exact metrics of rows that are not trained on, the same numbers on all ranks.

    Users are told apart by their encoded id, so those who share an out-of-vocabulary bucket count as one.

    Args:
        model: Its mode stays as it is.
        batches: This rank's rows, as many batches on every rank.
        collective: The ranks; the scores of all rows come to each of them.

    Returns:
        A look without its `epoch` and `step`.
    """
    mode = model.training
    model.eval()
    user = model.features.id_fields.index(model.features.user_field)
    scored, users = [torch.empty(0, 3, dtype=torch.float64)], [torch.empty(0, dtype=torch.int64)]
    for batch in batches:
        columns = [
            batch.label.double(),
            torch.sigmoid(model(batch.to(model.tables.device)).double()).cpu(),
            batch.weight.double(),
        ]
        scored.append(torch.stack(columns, 1))
        users.append(batch.ids[:, user].clone())
    model.train(mode)
    label, probability, weight = collective.all_gather(torch.cat(scored)).numpy().T
    found = summary(label, probability, collective.all_gather(torch.cat(users)).numpy(), weight)
    return {name: found[name] for name in ("rows", "log_loss", "auc", "gauc")}


def best(looks: Sequence[Look], settings: EarlyStoppingConfig) -> int:
    """Place of the look whose parameters are kept: a later one only where it is better by more than `min_gain`.

    A look without the metric is never better than another one.

    Args:
        looks: At least one, in order.
        settings: The metric.
    """
    chosen = 0
    for place, candidate in enumerate(looks):
        if _gain(looks[chosen], candidate, settings) > settings.min_gain:
            chosen = place
    return chosen


def exhausted(looks: Sequence[Look], settings: EarlyStoppingConfig) -> bool:
    """Whether `patience` epochs in a row have brought nothing better."""
    return bool(looks) and len(looks) - 1 - best(looks, settings) >= settings.patience


def summary_of(looks: Sequence[Look], settings: EarlyStoppingConfig) -> dict[str, Any] | None:
    """What a version's record says of its epochs; None without early stopping."""
    if not looks:
        return None
    chosen = looks[best(looks, settings)]
    return {"metric": settings.metric, "best_epoch": chosen["epoch"], "epochs": len(looks), "looks": list(looks)}


def _gain(held: Look, candidate: Look, settings: EarlyStoppingConfig) -> float:
    old, new = held[settings.metric], candidate[settings.metric]
    if new is None or old is None:
        return float("-inf") if new is None or old is not None else float("inf")
    return float(old - new if settings.metric == "log_loss" else new - old)
