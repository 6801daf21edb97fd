"""How the ad model learns from what CPM gives it: all of it, its head alone, or what a policy sends the tuned way."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from ecdctr.config.schema import AutoftConfig, FineTuning
from ecdctr.features.domains import AD
from ecdctr.models.base import CTRModel
from ecdctr.models.full import FullModel
from ecdctr.nn.policy import FixedPolicy, LearnedPolicy, Policy, RandomPolicy
from ecdctr.nn.stored_rows import StoredRows
from ecdctr.transfer.autoft import LAYER, AutoFT, decisions
from ecdctr.transfer.parameter_map import TransferReport, warm_start


def fine_tune(
    model: FullModel, kind: FineTuning, settings: AutoftConfig, seed: int, steps: int = 1
) -> FullModel | AutoFT:
    """Put a way of fine-tuning around a backbone.

    Args:
        model: Freshly built; its frozen twin, where it gets one, has the same values.
        kind: As `transfer.policy` of the configuration.
        settings: Of AutoFT's policies.
        seed: Of the policy's initial values and chance.
        steps: Of the training that begins, over which the temperature falls where the settings do not say.
    """
    if kind == "full":
        return model
    names = decisions(model, fields=kind != "autoft_layer", layers=kind != "autoft_field")
    return AutoFT(model, _policy(model, kind, names, settings, seed, steps), names, cost=settings.cost)


def _policy(
    model: FullModel, kind: FineTuning, names: list[str], settings: AutoftConfig, seed: int, steps: int
) -> Policy:
    if kind == "freeze":
        return FixedPolicy([float(name == f"{LAYER}{_output_layer(model)}") for name in names])
    if kind == "autoft_random":
        return RandomPolicy(len(names), settings.random_share, seed)
    return LearnedPolicy(
        model.fields * model.embedding_dim,
        len(names),
        settings.hidden_units,
        temperature=(settings.temperature_start, settings.temperature_end),
        anneal_steps=settings.temperature_steps or max(steps, 1),
        seed=seed,
        prior=settings.tuned_prior,
        gain=settings.policy_gain,
    )


def _output_layer(model: FullModel) -> str:
    """The layer that the logit's bias is in."""
    bias = model.output_bias(AD)
    return next(name for name, layer in model.layers().items() if any(part is bias for part in layer.parameters()))


def start_from(
    model: CTRModel,
    network: Mapping[str, Tensor],
    tables: Mapping[str, Tensor | StoredRows],
    batch_norm: Literal["keep", "statistics", "full"],
) -> TransferReport:
    """Copy a pre-trained twin into a model, and where it has a frozen one, into that with all of its normalisation.

    Raises:
        TrainingError: A name or a shape that the two do not share.
    """
    if not isinstance(model, AutoFT):
        return warm_start(model, network, tables, batch_norm)
    load_frozen(model, network, tables)
    return warm_start(model.tuned, network, tables, batch_norm)


def load_frozen(model: AutoFT, network: Mapping[str, Tensor], tables: Mapping[str, Tensor | StoredRows]) -> None:
    """Make the frozen twin what it was; rows that its vocabularies have gained are those that a fresh model has.

    Raises:
        TrainingError: A name or a shape that does not fit.
    """
    warm_start(model.frozen, network, tables, "keep")
