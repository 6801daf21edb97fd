"""AutoFT (arXiv 2106.04873): a policy decides row by row which fields and layers to take as pre-trained, which fine-tuned."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ecdctr.data.batch import Batch
from ecdctr.exceptions import TrainingError
from ecdctr.features.domains import AD
from ecdctr.models.base import CTRModel
from ecdctr.models.full import FullModel, Inputs
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.nn.policy import Choice, Policy
from ecdctr.nn.row_noise import NO_KEYS, row_keys

FIELD, LAYER = "field.", "layer."


class AutoFT(CTRModel):
    """A full model whose fields and layers each stand beside a frozen twin, and a policy that chooses between them.

        e_j = (1 - P_j) · e_frozen_j + P_j · e_tuned_j                         for each field j
        h_l = (1 - Q_l) · F_frozen_l(h_{l-1}) + Q_l · F_tuned_l(h_{l-1})       for each layer l after the inputs

    Both ways are computed for all rows, and mixed by a choice of exact zeros and ones: a row sent the frozen way gives the
    tuned one no gradient, but batch normalisation of the tuned way sees all rows, so that every rank takes part in every
    exchange whatever its rows have chosen.

    The backbone knows nothing of it: for the time of a forward pass its inputs are rerouted (`FullModel.reroute`), and its
    layers are hooked.

    Args:
        tuned: The backbone; it goes on learning.
        policy: Decides about `names`.
        names: What is decided about, of `decisions(tuned)` and in its order. All else is taken the tuned way.
        cost: Nats that a row pays for being sent the tuned way with certainty, everywhere.
        frozen: The twin; None: a copy of the backbone as it is now.

    Attributes:
        frozen: The twin: no submodule of this one, hence beyond reach of optimisers, modes and exchanges.
        choice: Of the last forward pass.
    """

    def __init__(
        self,
        tuned: FullModel,
        policy: Policy,
        names: Sequence[str],
        *,
        cost: float = 0.0,
        frozen: FullModel | None = None,
    ) -> None:
        # Not CTRModel's own: the tables are the backbone's.
        nn.Module.__init__(self)
        self.features, self.tables = tuned.features, tuned.tables
        self.tuned, self.policy, self.cost = tuned, policy, cost
        # In a tuple, which torch does not look into.
        self._twin = (_freeze(frozen or detached_copy(tuned)),)
        self.names = list(names)
        self.choice: Choice | None = None
        known = decisions(tuned)
        self._fields = [known.index(name) for name in names if name.startswith(FIELD)]
        self._layers = [name.removeprefix(LAYER) for name in names if name.startswith(LAYER)]

    @property
    def frozen(self) -> FullModel:
        """The frozen twin."""
        return self._twin[0]

    def twin_tables(self) -> list[EmbeddingTables]:
        """See `CTRModel.twin_tables`."""
        return [self.frozen.tables]

    def decide(self, batch: Batch) -> tuple[Choice, Inputs]:
        """The policy's choice for `names`, and the frozen inputs that it has looked at."""
        with torch.no_grad():
            frozen = self.frozen.inputs(batch)
        keys = row_keys([batch.ids, batch.day, batch.numbers]) if self.policy.asks_for_keys else NO_KEYS
        return self.policy(frozen[0].flatten(1), keys), frozen

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        self.choice, frozen = self.decide(batch)
        with self._routed(self.choice.taken, frozen):
            logits: Tensor = self.tuned(batch)
        return logits

    @contextmanager
    def _routed(self, taken: Tensor, frozen: Inputs) -> Iterator[None]:
        """Let the backbone mix in what the frozen twin makes of the same inputs."""
        count = len(self._fields)
        twins = self.frozen.layers() if self._layers else {}
        learning = self.tuned.layers() if self._layers else {}
        handles = [
            learning[name].register_forward_hook(_mixing(taken[:, count + place], twins[name]))
            for place, name in enumerate(self._layers)
        ]
        if self._fields:
            of_fields = taken.new_ones(taken.shape[0], self.tuned.fields).index_copy(
                1, torch.tensor(self._fields, device=taken.device), taken[:, :count]
            )
            self.tuned.reroute = lambda made: _mix_inputs(of_fields, frozen, made)
        try:
            yield
        finally:
            self.tuned.reroute = None
            for handle in handles:
                handle.remove()

    def penalty(self) -> Tensor | None:
        """See `CTRModel.penalty`: the cost times the mean probability of the tuned way."""
        if not self.cost or self.choice is None or not self.choice.probability.requires_grad:
            return None
        return self.cost * self.choice.probability.mean(1)

    def stepped(self) -> None:
        """See `CTRModel.stepped`."""
        self.policy.advance()

    def shift_logits(self, amount: float, domain: int = AD) -> None:
        """See `CTRModel.shift_logits`; both ways are shifted."""
        self.tuned.shift_logits(amount, domain)
        self.frozen.shift_logits(amount, domain)


def decisions(model: FullModel, *, fields: bool = True, layers: bool = True) -> list[str]:
    """Names of what a policy can decide about: fields as `field.NAME`, then layers as `layer.NAME`.

    Raises:
        TrainingError: The backbone has a parameter that belongs to no field and to no layer.
    """
    found = model.layers()
    covered = {id(parameter) for layer in found.values() for parameter in layer.parameters()}
    covered |= {id(parameter) for parameter in model.input_parameters()}
    loose = [name for name, parameter in model.named_parameters() if id(parameter) not in covered]
    if loose:
        raise TrainingError(
            f"{type(model).__name__} has parameters that belong to no field and no layer: {', '.join(loose)}",
            hint="put them into a module of their own, which then is a layer",
        )
    names = [f"{FIELD}{name}" for name in model.field_names] if fields else []
    return names + [f"{LAYER}{name}" for name in found] if layers else names


def detached_copy(model: FullModel) -> FullModel:
    """A copy with parameters and tables of its own, that knows no ranks."""
    reducers = [module.reducer for module in model.modules() if hasattr(module, "reducer")]
    return copy.deepcopy(model, {id(reducer): None for reducer in reducers if reducer is not None})


def _freeze(model: FullModel) -> FullModel:
    # In evaluation normalisation reads its running statistics and a look-up touches no row.
    return model.requires_grad_(False).eval()


def _mix(choice: Tensor, frozen: Tensor, tuned: Tensor) -> Tensor:
    """Rows of two tensors `(B, …)` by a choice `(B,)` or `(B, F)`; in this form a choice of 1 or 0 gives exact bits."""
    choice = choice.view(*choice.shape, *[1] * (tuned.dim() - choice.dim()))
    return (1 - choice) * frozen + choice * tuned


def _mix_inputs(choice: Tensor, frozen: Inputs, tuned: Inputs) -> Inputs:
    # Id fields come first, and a first-order weight goes with its id; without first order there is no column.
    return _mix(choice, frozen[0], tuned[0]), _mix(choice[:, : tuned[1].shape[1]], frozen[1], tuned[1])


def _mixing(choice: Tensor, twin: nn.Module) -> Any:
    def hook(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        return _mix(choice, twin(*arguments), output)

    return hook
