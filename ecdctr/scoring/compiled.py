"""AutoFT compiled: what its policies always decide alike is served by one copy, and what that saves is counted."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ecdctr.data.batch import Batch
from ecdctr.models.base import CTRModel
from ecdctr.models.full import FullModel
from ecdctr.scoring.serving import ServingModel
from ecdctr.transfer.autoft import FIELD, LAYER, AutoFT
from ecdctr.transfer.settle import constant_choices, settle


@dataclass(frozen=True)
class Dropped:
    """A decision that a file no longer makes.

    Attributes:
        decision: `field.NAME`, `layer.NAME`, or `policy`, the network that made the decisions.
        always: The way that all judged rows were sent: `tuned` or `frozen`; of the policy, none.
        rows: How many rows it was judged on.
        parameters: Numbers that the file lacks for it: of a vocabulary that several fields share they stand with the first.
    """

    decision: str
    always: str | None
    rows: int
    parameters: int


@dataclass(frozen=True)
class Compiled:
    """What compiling has done to a model.

    Attributes:
        rows: Rows that policies were judged on; 0: not compiled.
        dropped: Decisions that were the same for all of them.
        open: Decisions that are still made row by row.
    """

    rows: int
    dropped: list[Dropped]
    open: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For reports and for the file itself."""
        return asdict(self)


def settled(model: AutoFT, batches: Sequence[Batch]) -> tuple[FullModel | AutoFT, dict[str, bool]]:
    """A smaller model that chooses on the given rows as the whole one does, and what it takes for granted."""
    constant = constant_choices(model, batches)
    return settle(model, constant), constant


def account(model: AutoFT, small: CTRModel, served: ServingModel, constant: dict[str, bool], rows: int) -> Compiled:
    """Count what a served model lacks of the whole one.

    Args:
        model: As trained.
        small: What `settled` made of it.
        served: The graph of `small`.
        constant: As `settled` gave it.
        rows: How many rows were looked at.
    """
    left = small.names if isinstance(small, AutoFT) else []
    counted: set[str] = set()
    dropped: list[Dropped] = []
    for name in model.names:
        if name in left:
            continue
        if name.startswith(LAYER):
            gone = _numbers(model.tuned.layers()[name.removeprefix(LAYER)])
        else:
            gone = _of_field(model, name.removeprefix(FIELD), served, counted)
        dropped.append(Dropped(name, "tuned" if constant[name] else "frozen", rows, gone))
    gone = _numbers(model.policy) - (_numbers(small.policy) if isinstance(small, AutoFT) else 0)
    if gone:
        dropped.append(Dropped("policy", None, rows, gone))
    return Compiled(rows, dropped, left)


def _of_field(model: AutoFT, field: str, served: ServingModel, counted: set[str]) -> int:
    """Numbers of the copy of a field that is not served; what is counted once is noted.

    Tables that are equal in both ways have one copy in any file.
    """
    vocabularies, modules = model.tuned.made_of(field)
    gone = 0
    for vocabulary in vocabularies - counted - served.doubled:
        counted.add(vocabulary)
        tables = (way.tables.table(vocabulary) for way in (model.tuned, model.frozen))
        gone += _more(*tables)
    if field in served.single_histories:
        pairs = zip(*(_states(way, modules) for way in (model.tuned, model.frozen)), strict=True)
        return gone + (served.single_histories[field] if any(_more(*pair) for pair in pairs) else 0)
    if len(served.ways) == 0:
        gone += sum(_numbers(model.tuned.get_submodule(module)) for module in modules)
    return gone


def _more(tuned: Tensor, frozen: Tensor) -> int:
    """Numbers of a second copy; none where both are equal."""
    return 0 if torch.equal(tuned, frozen) else tuned.numel()


def _states(way: FullModel, modules: Sequence[str]) -> list[Tensor]:
    return [tensor for module in modules for tensor in way.get_submodule(module).state_dict().values()]


def _numbers(module: nn.Module) -> int:
    """Numbers that evaluation reads: weights and running statistics."""
    return sum(t.numel() for t in module.state_dict().values() if t.is_floating_point())
