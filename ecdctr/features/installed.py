"""Kinds of feature that other packages bring, by entry points."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import get_args

from ecdctr.features.feature import Feature

GROUP = "ecdctr.feature_kinds"


@dataclass(frozen=True)
class InstalledKinds:
    """What the installed packages offer.

    Attributes:
        kinds: Usable ones.
        unusable: By kind, why it cannot be used; who does not ask for it is not held up.
    """

    kinds: tuple[type[Feature], ...]
    unusable: dict[str, str]


def kind_name(feature: type[Feature]) -> str:
    """The `kind` by which configurations name it; empty where the class fixes none."""
    given = get_args(feature.model_fields["kind"].annotation)
    return str(given[0]) if len(given) == 1 else ""


def installed_kinds(shipped: Iterable[type[Feature]]) -> InstalledKinds:
    """Load the entry points of the group; each names a class derived from `Feature` by its `kind`.

    Args:
        shipped: Kinds whose names are taken.
    """
    kinds: dict[str, type[Feature]] = {}
    unusable: dict[str, str] = {}
    taken = {kind_name(kind) for kind in shipped}
    for point in entry_points(group=GROUP):
        try:
            if point.name in taken:
                raise ValueError("the name is taken by another kind; rename one of the two")
            kinds[point.name] = _loaded(point)
            taken.add(point.name)
        # Whatever a stranger's module raises while it is imported.
        except Exception as error:
            kinds.pop(point.name, None)
            unusable[point.name] = (
                f"entry point {point.name!r} = {point.value!r} of {GROUP} cannot be used: {type(error).__name__}: {error}"
            )
    return InstalledKinds(tuple(kinds.values()), unusable)


def _loaded(point: EntryPoint) -> type[Feature]:
    found = point.load()
    if not (inspect.isclass(found) and issubclass(found, Feature)):
        raise TypeError("it is no class derived from ecdctr.features.Feature")
    if inspect.isabstract(found):
        raise TypeError(f"it lacks {', '.join(sorted(found.__abstractmethods__))}")
    if kind_name(found) != point.name:
        raise TypeError(f"it must be declared with kind: Literal[{point.name!r}]")
    return found
