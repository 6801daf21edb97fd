"""Numbers: as they are, as logarithms, or standardised by the days before."""

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from ecdctr.durations import Days
from ecdctr.features.columns import Fitted, SampleColumn
from ecdctr.features.feature import Feature
from ecdctr.features.scene import Encoded, Scene

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

LIMIT = 10.0
"""Standard deviations beyond which a standardised value is cut: a wild one must not drown all others."""


class NumberFeature(Feature):
    """A numeric column, given to the network as a number."""

    kind: Literal["number"]
    source: str | None = None
    """Column of the log; by default the one named like the feature."""
    transform: Literal["none", "log1p", "standardise"] = "log1p"
    """`log1p`: sign(x)·ln(1 + |x|). `standardise`: (x - mean) / standard deviation of the days before, within ±10."""
    window: Days | None = None
    """Only for `standardise`: how many days before the row's day it is fitted on, over both domains; 28 by default."""
    fill: float = 0.0
    """What a missing value becomes, after the transform; with `standardise` also any value of the first day."""

    @model_validator(mode="after")
    def _window_belongs_to_standardise(self) -> "NumberFeature":
        if self.window is not None and self.transform != "standardise":
            raise ValueError("'window' goes with transform 'standardise', and only with it")
        return self

    def log_columns(self) -> dict[str, str]:
        """The source as a number."""
        return {self.source or self.name: "double"}

    def columns(self) -> list[SampleColumn]:
        """One number."""
        return [SampleColumn(self.name, "number")]

    def fitted(self) -> Fitted | None:
        """The source, where it is standardised."""
        return Fitted(self.source or self.name, self.window or 28) if self.transform == "standardise" else None

    def encode(self, frame: "DataFrame", scene: Scene) -> Encoded:
        """The value after its transform as float; `fill` where it is missing or not finite."""
        from pyspark.sql import functions as F

        value = scene.column(self.source or self.name)
        if self.transform == "log1p":
            value = F.signum(value) * F.log1p(F.abs(value))
        fitted = self.fitted()
        if fitted is not None:
            frame = frame.join(F.broadcast(self._moments(fitted, scene)), "event_date", "left")
            mean, deviation = F.col(f"_{self.name}_mean"), F.col(f"_{self.name}_deviation")
            # `least` and `greatest` pass a null over, and take NaN for the greatest of all.
            known = value.isNotNull() & ~F.isnan(value) & mean.isNotNull()
            value = F.when(known, F.greatest(F.lit(-LIMIT), F.least(F.lit(LIMIT), (value - mean) / deviation)))
        single = value.cast("float")
        finite = single.isNotNull() & ~F.isnan(single) & (F.abs(single) < F.lit(float("inf")))
        return frame, {self.name: F.when(finite, single).otherwise(F.lit(self.fill).cast("float")).cast("float")}

    def _moments(self, fitted: Fitted, scene: Scene) -> "DataFrame":
        """Mean and standard deviation for each day; a number that never varied is only centred."""
        rows = []
        for day in scene.days():
            fit = scene.before(fitted, day).moments()
            if fit is not None:
                rows.append((day, fit[0], fit[1] or 1.0))
        names = (f"_{self.name}_{part} double" for part in ("mean", "deviation"))
        return scene.local_frame(rows, f"event_date date, {', '.join(names)}")
