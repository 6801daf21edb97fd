"""How tables are looked after: checks of each day, clean-up, and what is called at the steps of a job."""

from typing import Literal

from pydantic import Field

from ecdctr.durations import Days
from ecdctr.settings import Settings

Policy = Literal["off", "warn", "quarantine", "fail"]


class CheckConfig(Settings):
    """One check of a day's rows against the days before it."""

    policy: Policy = "warn"
    """Where it fails: say so, put the day's rows aside, or end the command before anything is written."""
    tolerance: float = Field(default=0.5, gt=0)
    """Largest distance from the mean of the trailing days: relative for volume and click_rate, absolute for null_rate and
    new_ids."""


class QualityConfig(Settings):
    """Checks before the write; each day's figures are kept in the table `data_quality`."""

    trailing: Days = 7
    """Days before a day that it is compared with."""
    least_days: int = Field(default=3, ge=1)
    """With fewer trailing days than this there is nothing to compare with."""
    volume: CheckConfig = CheckConfig(tolerance=0.8)
    """Rows of the day."""
    click_rate: CheckConfig = CheckConfig(tolerance=0.8)
    """Clicks by rows; where clicks are joined, of a day that is written when all its labels are mature."""
    null_rate: CheckConfig = CheckConfig(tolerance=0.3)
    """Missing values by rows, of each column that may be missing."""
    new_ids: CheckConfig = CheckConfig(tolerance=0.4)
    """Share of rows whose user or item has no id yet; of new days, as if they were prepared one by one."""


class MaintenanceConfig(Settings):
    """What `ecdctr tables vacuum` leaves."""

    retention: Days = 7
    """Files that no kept version has go when they have been out of use for so long."""
    models: Days = 90
    """A published version keeps its rows and its own files for so long, also when no alias and no newer version needs it."""


class HookConfig(Settings):
    """One hook."""

    name: str
    """One that is shipped (`success_marker`, `webhook`, `openlineage`, `quality_gate`) or an entry point of the group
    `ecdctr.hooks`."""
    on_error: Literal["report", "fail"] | None = None
    """Whether a failure of the hook fails the step; by default as the hook itself says, else it is reported."""
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """What the hook takes; secrets are named by the environment variable that holds them."""
