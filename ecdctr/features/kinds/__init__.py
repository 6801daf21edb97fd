"""One file per kind of feature; a kind is registered by its line in `KINDS`.

A kind of another package is registered by an entry point of the group `ecdctr.feature_kinds`.
"""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import BeforeValidator, Field

from ecdctr.features.feature import Feature
from ecdctr.features.installed import installed_kinds
from ecdctr.features.kinds.age import AgeFeature
from ecdctr.features.kinds.bucket import BucketFeature
from ecdctr.features.kinds.cross import CrossFeature
from ecdctr.features.kinds.id import IdFeature
from ecdctr.features.kinds.ids import IdsFeature
from ecdctr.features.kinds.number import NumberFeature
from ecdctr.features.kinds.quantile import QuantileFeature
from ecdctr.features.kinds.rate import RateFeature
from ecdctr.features.kinds.sequence import SequenceFeature
from ecdctr.features.kinds.time import TimeFeature

KINDS: tuple[type[Feature], ...] = (
    IdFeature,
    IdsFeature,
    NumberFeature,
    BucketFeature,
    QuantileFeature,
    TimeFeature,
    AgeFeature,
    CrossFeature,
    RateFeature,
    SequenceFeature,
)

INSTALLED = installed_kinds(KINDS)


def _usable(given: Any) -> Any:
    reason = INSTALLED.unusable.get(str(given.get("kind"))) if isinstance(given, dict) else None
    if reason is not None:
        raise ValueError(reason)
    return given


# Which kinds there are is known at run time alone; all that is asked of one is what every feature has.
if TYPE_CHECKING:
    FeatureSpec: TypeAlias = Feature
else:
    FeatureSpec = Annotated[Union[(*KINDS, *INSTALLED.kinds)], Field(discriminator="kind"), BeforeValidator(_usable)]
