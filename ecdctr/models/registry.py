"""Models by name; one line registers one."""

import inspect
from collections.abc import Mapping
from typing import Any, get_args

from ecdctr.exceptions import ConfigError
from ecdctr.features import FeatureSet
from ecdctr.features.feature_set import SOURCE
from ecdctr.models.autoint import AutoInt
from ecdctr.models.base import CTRModel
from ecdctr.models.dcnv2 import DCNv2
from ecdctr.models.deepfm import DeepFM
from ecdctr.models.din import DIN
from ecdctr.models.dnn import DNN
from ecdctr.models.finalmlp import FinalMLP
from ecdctr.models.minet import MiNet
from ecdctr.models.mmoe import MMoE
from ecdctr.models.ple import PLE
from ecdctr.models.star import STAR
from ecdctr.models.tiny import TinyModel
from ecdctr.nn.seeding import seeded

MODELS: dict[str, type[CTRModel]] = {
    "tiny": TinyModel,
    "dnn": DNN,
    "deepfm": DeepFM,
    "dcnv2": DCNv2,
    "autoint": AutoInt,
    "din": DIN,
    "finalmlp": FinalMLP,
    "mmoe": MMoE,
    "ple": PLE,
    "star": STAR,
    "minet": MiNet,
}


def build(backbone: str, *, features: FeatureSet, rows: Mapping[str, int], seed: int, **options: Any) -> CTRModel:
    """Make a model with initial values that depend on the seed alone.

    Args:
        backbone: Name of the model.
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        options: As the model's class takes them; None is left to the class. Every class has `embedding_dims`: how many
            numbers the rows of some vocabularies learn, see `EmbeddingTables.narrow`.

    Raises:
        ConfigError: No such model, an option that it does not have, or a vocabulary that there is not.
    """
    if backbone not in MODELS:
        raise ConfigError(f"no model {backbone!r}", hint=f"choose one of {', '.join(MODELS)}")
    given = {name: value for name, value in options.items() if value is not None}
    narrow: dict[str, int] = given.pop("embedding_dims", {})
    unknown = sorted(set(given) - options_of(MODELS[backbone]))
    if unknown:
        raise ConfigError(f"model {backbone!r} has no option {', '.join(unknown)}", hint="see docs/models.md")
    with seeded(seed):
        model = MODELS[backbone](features=features, rows=rows, seed=seed, **given)
    names = {name.removeprefix(SOURCE): name for name in model.tables.rows}
    if not narrow.keys() <= names.keys():
        raise ConfigError(
            f"embedding_dims names {', '.join(sorted(narrow.keys() - names.keys()))}, which the model has no vocabulary of",
            hint=f"its vocabularies are {', '.join(names)}",
        )
    model.tables.narrow({names[name]: dim for name, dim in narrow.items()}, first_order=model.first_order)
    return model


def options_of(model: type[CTRModel]) -> set[str]:
    """Names that the class takes, those that it passes on included."""
    names: set[str] = set()
    for parameter in inspect.signature(model).parameters.values():
        passed_on = parameter.kind is parameter.VAR_KEYWORD
        names |= get_args(parameter.annotation)[0].__annotations__.keys() if passed_on else {parameter.name}
    return names
