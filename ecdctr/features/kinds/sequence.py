"""The user's latest clicks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ecdctr.features.columns import ITEM, ClickLists, SampleColumn
from ecdctr.features.feature import Domains, Feature
from ecdctr.features.scene import Encoded, Scene

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

AGE_BUCKETS = 40
"""Of the times in a sequence: 2^40 seconds are longer than any log."""


class SequenceFeature(Feature):
    """The user's latest clicked items, strictly before the impression, most recent first."""

    kind: Literal["sequence"]
    length: int = Field(default=20, ge=1, le=5000)
    """Clicks remembered; shorter histories are padded."""
    domains: Domains = Field(default=["natural", "ad"])
    """Whose clicks are remembered."""
    delay_seconds: int = Field(default=0, ge=0)
    """A click is known only this long after it happened."""
    attributes: list[str] = Field(default_factory=list)
    """Features of kind `id`: what the clicked item had there is added to its vector before attention."""
    times: bool = False
    """Whether how long ago each click was, on a logarithmic scale, is added to its vector before attention."""
    read_by: Literal["all", "minet"] = "all"
    """Which arms read it. `minet`: that one alone, which asks for the clicks of each domain; no other arm changes by it."""

    def columns(self) -> list[SampleColumn]:
        """The items, then one aligned list per attribute and one of times."""
        lists = [SampleColumn(self.name, "list", vocabulary=ITEM, length=self.length, like=ITEM)]
        lists += [
            SampleColumn(f"{self.name}_{other}", "list", length=self.length, like=other, aligned=self.name)
            for other in self.attributes
        ]
        if self.times:
            name = f"{self.name}_times"
            lists.append(
                SampleColumn(name, "list", vocabulary=name, values=AGE_BUCKETS, length=self.length, aligned=self.name)
            )
        return lists

    def clicks(self) -> ClickLists:
        """The items, the attributes and the times."""
        fields = (ITEM, *self.attributes)
        return ClickLists(fields, self.length, tuple(self.domains), self.delay_seconds, self.times, self.read_by)

    def encode(self, frame: "DataFrame", scene: Scene) -> Encoded:
        """Nothing: what `clicks` says is enough for `ecdctr.etl.sequences`, which makes all sequences in one pass."""
        return frame, {}

    def check_beside(self, features: Mapping[str, Feature]) -> None:
        """Refuse an attribute that is no id feature."""
        known = sorted(name for name, feature in features.items() if feature.kind == "id")
        wrong = [name for name in self.attributes if name not in known]
        if wrong:
            raise ValueError(f"sequence {self.name!r} has attributes {wrong}; features of kind 'id' are {known}")
