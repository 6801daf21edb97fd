"""`report.json` as types: contract §6 to the letter, and the keys that this project adds.

Strict: no number from a string, no true for 1, no unknown key. Days are ISO dates. NaN and infinity become null where
a metric may be null, and are refused elsewhere: JSON has no word for them.
"""

import datetime as dt
import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    model_validator,
)

LEVELS = ("tpm", "cpm", "actr")
STAGES = ("prepare", "tpm", "cpm", "actr", "evaluate", "total")


def _day(value: Any) -> dt.date:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    if isinstance(value, str) and len(value) == 10:
        return dt.date.fromisoformat(value)
    raise ValueError(f"{value!r} is no day; a date such as 2024-03-31 was expected")


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _window(value: tuple[dt.date, dt.date]) -> tuple[dt.date, dt.date]:
    if value[0] > value[1]:
        raise ValueError(f"the window [{value[0]}, {value[1]}) ends before it starts")
    return value


def _all_stages(value: dict[str, float]) -> dict[str, float]:
    missing = [stage for stage in STAGES if stage not in value]
    if missing:
        raise ValueError(f"seconds of {', '.join(missing)} are missing")
    return value


Day = Annotated[dt.date, BeforeValidator(_day), PlainSerializer(dt.date.isoformat, return_type=str)]
Window = Annotated[tuple[Day, Day], Strict(False), AfterValidator(_window)]
"""`[start, end)` in UTC days."""
Count = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(_known)]
"""In [0, 1], or null where it cannot be computed."""
Metric = Annotated[Annotated[float, Field(ge=0)] | None, BeforeValidator(_known)]
"""0 or more, or null where it cannot be computed."""
Curve = list[Annotated[tuple[Count, Metric], Strict(False)]]
"""(step, mean log loss of the steps since the last point)."""


class Part(BaseModel):
    """Any object of the report."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class Metrics(Part):
    """Metrics of some rows; see docs/metrics.md. Those with a default are missing from files of earlier releases."""

    rows: Count
    clicks: Count
    auc: Share
    gauc: Share
    log_loss: Metric
    normalized_entropy: Metric
    pcoc: Metric
    binned_auc: Share = None
    gauc_clicks: Share = None
    gauc_mean: Share = None
    expected_calibration_error: Share = None


class DailyMetrics(Metrics):
    """Metrics of one walked day, scored before the day was trained on."""

    date: Day
    model_version: str


class Dataset(Part):
    """What was learned from."""

    name: str
    natural_rows: Count
    ad_rows: Count
    users: Count
    items: Count
    since: Day = Field(alias="from")
    until: Day


class TableFacts(Part):
    """A Delta table as it stood at the end."""

    version: Count
    rows: Count
    bytes: Count
    files: Count


class Look(Part):
    """Metrics of the days held back, after an epoch."""

    epoch: Count
    step: Count
    rows: Count
    log_loss: Metric
    auc: Metric
    gauc: Metric


class EarlyStopping(Part):
    """How many epochs a version was trained, and which one's parameters it has."""

    metric: Literal["log_loss", "auc", "gauc"]
    best_epoch: Count
    epochs: Count
    looks: list[Look]


class Version(Part):
    """A published model.

    Attributes:
        window: Days it was trained on.
        seconds: Wall time of training.
        train_log_loss: Mean over the rows of training, each scored before its own step.
        arm: Way of training; empty where levels are shared.
        date: The first day that it may not have seen.
        phases: Seconds of a rank's steps by what they went into.
        early_stopping: What its epochs were seen to bring; None where all were trained unseen.
    """

    version: str
    parents: list[str]
    window: Window
    rows: Count
    steps: Count
    seconds: Amount
    samples_per_second: Amount
    peak_rss_bytes: Count
    parameters: Count
    train_log_loss: Metric
    arm: str = ""
    date: Day | None = None
    phases: dict[str, Amount] = {}
    early_stopping: EarlyStopping | None = None


class Levels(Part):
    """Versions of each level, oldest first."""

    tpm: list[Version]
    cpm: list[Version]
    actr: list[Version]


class ArmReport(Part):
    """One way to train the ad model; `title` names it for readers."""

    daily: list[DailyMetrics]
    pooled: Metrics
    title: str = ""


class Difference(Part):
    """metric(arm) - metric(baseline), with its interval over users."""

    arm: str = ""
    baseline: str = ""
    metric: str
    difference: Number
    low: Number
    high: Number
    users: Count
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95


class Transfer(Part):
    """The question that the first page answers."""

    baseline: str
    arm: str
    differences: list[Difference]


class CalibrationPoint(Part):
    """A bin of like predictions."""

    predicted: Annotated[float, Field(ge=0, le=1)]
    observed: Annotated[float, Field(ge=0, le=1)]
    rows: Count
    weight: Amount | None = None


class PolicyShares(Part):
    """Rows of users of one activity, and for each decision the share of them that was sent the tuned way."""

    rows: Count
    tuned: list[Annotated[float, Field(ge=0, le=1)]]


class Policies(Part):
    """What an arm's policies chose on the walked days.

    Attributes:
        decisions: Names in order: fields as `field.NAME`, then layers as `layer.NAME`.
        by_activity: By how many ads a user saw on the scored day.
    """

    decisions: list[str]
    by_activity: dict[str, PolicyShares]

    @model_validator(mode="after")
    def _one_share_each(self) -> "Policies":
        wrong = [name for name, part in self.by_activity.items() if len(part.tuned) != len(self.decisions)]
        if wrong:
            raise ValueError(f"parts {wrong} have not one share for each of the {len(self.decisions)} decisions")
        return self


class QualityDay(Part):
    """A figure of one prepared day.

    Attributes:
        expected: Mean of the days before it; null where they are too few.
        outcome: ok, no_history, or the policy that was applied.
    """

    date: Day
    value: Number
    expected: Number | None
    outcome: Literal["ok", "no_history", "warn", "quarantine", "fail"]


class QualityCheck(Part):
    """A check of one log, and what it found day by day.

    Attributes:
        check: volume (rows), or click_rate, null_rate, new_ids (shares of rows).
        subject: The column of a null rate, the field of new ids, else empty.
    """

    domain: Literal["natural", "ad"]
    check: str
    subject: str
    days: list[QualityDay]


class Report(Part):
    """`runs/NAME/report.json`.

    Attributes:
        seconds: Wall time by stage; those of `STAGES` at least.
        arms: Metrics of each arm; the main arm's are `daily` and `pooled` as well.
        transfer: The main arm against ads only.
        differences: Every arm against ads only.
        startup_seconds: Time before the first step, by cause.
        loss_curves: By version.
        calibration: By arm.
        by_activity: By arm, then by ads that a user saw in the walk.
        cold_users: By arm, then "cold" (no ad before) and "warm".
        policies: By arm, for arms whose policies choose between frozen and tuned parts.
        constants: What needs no model: popularity_auc, constant_auc.
        quality: The checks of the prepared days, by log and check.
    """

    schema_version: Literal[1]
    run_id: str
    config_digest: str
    code_version: str
    seed: int
    ranks: Annotated[int, Field(ge=1)]
    dataset: Dataset
    tables: dict[str, TableFacts]
    levels: Levels
    daily: list[DailyMetrics]
    pooled: Metrics
    seconds: Annotated[dict[str, Amount], AfterValidator(_all_stages)]
    arms: dict[str, ArmReport] = {}
    transfer: Transfer | None = None
    differences: list[Difference] = []
    startup_seconds: dict[str, Amount] = {}
    loss_curves: dict[str, Curve] = {}
    calibration: dict[str, list[CalibrationPoint]] = {}
    by_activity: dict[str, dict[str, Metrics]] = {}
    cold_users: dict[str, dict[str, Metrics]] = {}
    policies: dict[str, Policies] = {}
    constants: dict[str, Metric] = {}
    quality: list[QualityCheck] = []

    def tree(self) -> dict[str, Any]:
        """The report as JSON-ready values, keys as in the contract."""
        return self.model_dump(mode="json", by_alias=True)
