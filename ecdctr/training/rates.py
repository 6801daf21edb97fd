"""Learning rates: how they change with the steps, and for what was copied from a parent or is new beside it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecdctr.config.training import TrainingConfig
from ecdctr.models.base import CTRModel
from ecdctr.transfer.autoft import AutoFT
from ecdctr.transfer.parameter_map import TransferReport


def schedule(settings: TrainingConfig, step: int, steps: int) -> float:
    """What all learning rates are multiplied with at a step.

    Args:
        settings: Names the schedule.
        step: From 0.
        steps: Of the whole training of this version.
    """
    warm = settings.warmup_steps or 0
    if step < warm:
        return (step + 1) / warm
    if settings.schedule != "cosine":
        return 1.0
    done = (step - warm) / max(steps - warm, 1)
    floor = settings.final_rate or 0.0
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


@dataclass(frozen=True)
class Copied:
    """What a model has from the parent that it was started from, today or on an earlier day.

    Attributes:
        parameters: Names of the network's parameters.
        rows: How many first rows of each vocabulary.
    """

    parameters: frozenset[str]
    rows: Mapping[str, int]

    @classmethod
    def of(cls, model: CTRModel, report: TransferReport, tables: Mapping[str, Any]) -> "Copied":
        """What a warm start has copied.

        Args:
            model: The model after it.
            report: As `start_from` returned it.
            tables: The parent's, by vocabulary.
        """
        inside = "tuned." if isinstance(model, AutoFT) else ""
        copied = {inside + name for name in report.copied}
        names = frozenset(name for name, _ in model.named_parameters() if name in copied)
        return cls(names, {name: len(rows) for name, rows in tables.items()})

    @classmethod
    def from_record(cls, tree: Mapping[str, Any] | None) -> "Copied | None":
        """As a version's record has it."""
        return cls(frozenset(tree["parameters"]), tree["rows"]) if tree else None

    def record(self) -> dict[str, Any]:
        """For the record of the version, so that the days that go on from it know."""
        return {"parameters": sorted(self.parameters), "rows": dict(self.rows)}


class RowRates:
    """Tells the copied rows of a rank's matrix from new ones.

    Args:
        model: Its tables.
        rows: Copied first rows of each vocabulary; others are new as a whole.
    """

    def __init__(self, model: CTRModel, rows: Mapping[str, int]) -> None:
        layout = model.tables.layout
        bounds, at = [], 0
        for name in layout.names:
            first, step = layout.own(name)
            bounds += [at, at + len(range(first, rows.get(name, 0), step))]
            at += layout.held[name]
        self._bounds = torch.tensor(bounds, device=model.tables.device)

    def new(self, places: Tensor) -> Tensor:
        """Which of some rows `(U,)` are new, `(U,)` bool."""
        # An even number of bounds begins copied rows, an odd one new rows.
        return torch.searchsorted(self._bounds, places, right=True) % 2 == 0
