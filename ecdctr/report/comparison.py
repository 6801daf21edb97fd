"""`compare.json` as types: contract §6 to the letter, and the keys that this project adds."""

from typing import Any, Literal

from pydantic import Field

from ecdctr.report.schema import (
    Amount,
    CalibrationPoint,
    Count,
    Dataset,
    Day,
    Difference,
    Metric,
    Metrics,
    Number,
    Part,
    Share,
    Window,
)  # fmt: skip

BASELINES = ("target_only", "finetune")
"""What every arm is compared with, where they are among the arms."""


class SeedMetrics(Metrics):
    """Metrics of one seed's predictions over all walked days together."""

    seed: int


class DayMetrics(Metrics):
    """Metrics of one walked day, mean over the seeds."""

    date: Day


class SeededDifference(Difference):
    """metric(arm) - metric(baseline): means over the seeds, interval over users, and each seed's own difference."""

    by_seed: list[Number | None]


class ForgettingPoint(Part):
    """Held-out rows of earlier days, scored by the version of one day; mean over the seeds."""

    date: Day
    auc: Share
    log_loss: Metric


class Forgetting(Part):
    """What daily updates did to what was known of earlier days.

    Attributes:
        backward_transfer: AUC on held-out rows of earlier days, last version less first; negative is forgetting.
        low: Of its interval over users.
        high: Of its interval over users.
        backward_transfer_log_loss: The same of minus log loss, so that negative is forgetting as well.
        window: Days of the held-out rows.
        rows: Held-out rows.
        clicks: Of these.
        curve: By walked day.
    """

    backward_transfer: Number | None = None
    low: Number | None = None
    high: Number | None = None
    backward_transfer_log_loss: Number | None = None
    window: Window | None = None
    rows: Count = 0
    clicks: Count = 0
    curve: list[ForgettingPoint] = Field(default_factory=list)


class Effort(Part):
    """Rows and seconds of training."""

    rows: Amount
    seconds: Amount | None


class Cost(Part):
    """What an arm costs per day; means over the seeds.

    Attributes:
        updates: Daily updates that went on from yesterday.
        update: Of one of them.
        replays: Starts from CPM or from nothing, which replay the window of ads.
        replay: Of one of them.
        per_day: By level, spread over its clock: A-CTR by walked day, TPM and CPM a version over the days until the next.
        retrained_daily: By level, its whole window each day; seconds are null, since nobody measured them.
    """

    updates: Count
    update: Effort | None
    replays: Count
    replay: Effort | None
    per_day: dict[str, Effort]
    retrained_daily: dict[str, Effort]


class TuningTrial(Part):
    """Settings that were tried, and metrics on the tuning days.

    Attributes:
        settings: Keys of the training that differ from the configuration's; none: the configuration itself.
        metrics: Over all tuning days together.
    """

    settings: dict[str, Number]
    metrics: Metrics


class Tuning(Part):
    """The search of one arm, on days before the walked ones.

    Attributes:
        metric: By which the best trial was chosen.
        window: Tuning days.
        seed: Of the tried models.
        trials: As many for each arm.
        chosen: Place of the best among them.
    """

    metric: str
    window: Window
    seed: int
    trials: list[TuningTrial]
    chosen: Count


class ComparedArm(Part):
    """One arm over all seeds; metrics other than `seeds` are means over them.

    Attributes:
        seeds: Pooled metrics by seed.
        mean: Pooled metrics.
        daily: By walked day.
        by_activity: By ads that a user saw in the walk.
        cold_users: "cold" (no ad before that day) and "warm".
        cold_ads: "cold" (first seen on that day) and "warm".
        returning_users: "returning" (no ad in the week before, but earlier) and "others".
        calibration: Bins over the rows of all seeds.
        train_seconds: All versions that the walk rests on, of all levels.
        cost: Per day.
        tuning: The search for the settings that were walked; None: the configured ones were.
    """

    title: str = ""
    seeds: list[SeedMetrics]
    mean: Metrics
    daily: list[DayMetrics]
    by_activity: dict[str, Metrics]
    cold_users: dict[str, Metrics]
    cold_ads: dict[str, Metrics]
    returning_users: dict[str, Metrics]
    calibration: list[CalibrationPoint]
    forgetting: Forgetting
    train_seconds: Amount
    cost: Cost
    tuning: Tuning | None = None


class Comparison(Part):
    """`runs/NAME/compare.json`.

    Attributes:
        description: The data set in a line.
        command: That wrote it.
        window: Walked days.
        seeds: Seeds of every arm.
        seconds: Wall time by stage, of the call that ended the comparison.
    """

    schema_version: Literal[1]
    run_id: str
    config_digest: str
    code_version: str
    ranks: Count
    dataset: Dataset
    description: str = ""
    command: str = ""
    window: Window
    seeds: list[int]
    arms: dict[str, ComparedArm]
    differences: list[SeededDifference]
    seconds: dict[str, Amount]

    def tree(self) -> dict[str, Any]:
        """JSON-ready values, keys as in the contract."""
        return self.model_dump(mode="json", by_alias=True)
