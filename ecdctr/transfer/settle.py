"""What AutoFT's policies never choose is dropped: a model that serves needs one copy of what is always the same."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ecdctr.data.batch import Batch
from ecdctr.exceptions import TrainingError
from ecdctr.models.full import FullModel
from ecdctr.nn.policy import FixedPolicy, PartialPolicy
from ecdctr.transfer.autoft import FIELD, LAYER, AutoFT, detached_copy


@torch.no_grad()
def constant_choices(model: AutoFT, batches: Iterable[Batch]) -> dict[str, bool]:
    """The decisions that are the same for all given rows: true where all are sent the tuned way.

    Raises:
        TrainingError: No rows.
    """
    model.eval()
    taken = torch.cat([model.decide(batch)[0].taken for batch in batches] or [torch.zeros(0, len(model.names))])
    if not len(taken):
        raise TrainingError("no rows to see policies on", hint="give the rows that the model has scored")
    first = taken[0]
    same = (taken == first).all(0)
    return {name: bool(first[at]) for at, name in enumerate(model.names) if same[at]}


def recorded_constants(policies: Mapping[str, Any]) -> dict[str, bool]:
    """The decisions that were the same for every row of the day that a version has scored.

    Args:
        policies: What `PolicyStatistics.gather` returned, as a version's record keeps it.

    Returns:
        As `constant_choices`.

    Raises:
        TrainingError: No row was scored.
    """
    parts = list(policies["tuned"].values())
    if not parts:
        raise TrainingError("the record counts no rows", hint="give the record of a version that has scored a day")
    # A share of zeros or of ones is exact in floating point.
    shares = [{part[at] for part in parts} for at in range(len(policies["decisions"]))]
    named = zip(policies["decisions"], shares, strict=True)
    return {name: seen == {1.0} for name, seen in named if seen in ({0.0}, {1.0})}


def settle(model: AutoFT, constant: dict[str, bool]) -> FullModel | AutoFT:
    """A model for scoring in which decided fields and layers have one copy.

    On rows for which the policies choose as `constant` says, its logits are those of `model`, bit for bit. A field can
    have one copy where every field that shares its vocabularies or modules is decided the same way.

    Args:
        model: As trained; it stays as it is.
        constant: As `constant_choices` or `recorded_constants` gives it.

    Returns:
        The plain backbone where nothing needs two copies any more, else AutoFT with what is left to choose.
    """
    plain = detached_copy(model.tuned)
    settled = _settled_fields(plain, model.names, constant)
    settled |= {name for name in model.names if name in constant and name.startswith(LAYER)}
    for name in settled:
        if not constant[name]:
            _take_over(plain, model.frozen, name)
    left = [name for name in model.names if name not in settled]
    if not left:
        return plain.eval()
    frozen = detached_copy(model.frozen)
    for name in settled:
        if name.startswith(LAYER):
            _release(frozen.layers()[name.removeprefix(LAYER)])
    policy = (
        FixedPolicy([float(constant[name]) for name in left])
        if set(left) <= set(constant)
        else PartialPolicy(model.policy, [model.names.index(name) for name in left])
    )
    return AutoFT(plain, policy, left, frozen=frozen).eval()


def _settled_fields(model: FullModel, names: list[str], constant: dict[str, bool]) -> set[str]:
    """Decided fields that share nothing with an undecided one, nor with one decided the other way."""
    # A field that no policy decides about is always tuned.
    ways: dict[str, bool | None] = dict.fromkeys(model.field_names, True)
    ways |= {name.removeprefix(FIELD): constant.get(name) for name in names if name.startswith(FIELD)}
    settled = set(ways)
    while True:
        # The ways in which each vocabulary is still needed; two of them, or an open one, keep both copies.
        needed: dict[str, set[bool | None]] = {}
        for field, way in ways.items():
            for part in model.made_of(field)[0]:
                needed.setdefault(part, set()).add(way if field in settled else None)
        keep = {
            field
            for field in settled
            if ways[field] is not None and all(needed[part] == {ways[field]} for part in model.made_of(field)[0])
        }
        if keep == settled:
            return {f"{FIELD}{field}" for field in settled} & set(names)
        settled = keep


def _take_over(plain: FullModel, frozen: FullModel, name: str) -> None:
    if name.startswith(LAYER):
        layer = name.removeprefix(LAYER)
        plain.layers()[layer].load_state_dict(frozen.layers()[layer].state_dict())
        return
    vocabularies, modules = plain.made_of(name.removeprefix(FIELD))
    for vocabulary in vocabularies:
        plain.tables.load_table(vocabulary, frozen.tables.table(vocabulary))
    for module in modules:
        plain.get_submodule(module).load_state_dict(frozen.get_submodule(module).state_dict())


def _release(layer: nn.Module) -> None:
    """Give back the memory of a layer that is never called again."""
    for tensor in [*layer.parameters(), *layer.buffers()]:
        tensor.data = tensor.data.new_empty(0)
