"""Where a user's own logs lie and which column means what (contract §3)."""

import datetime as dt
import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ecdctr.config.simulator import WorldConfig
from ecdctr.durations import DaysOrZero, Seconds
from ecdctr.features.domains import Domain
from ecdctr.features.feature_set import check_features
from ecdctr.features.kinds import FeatureSpec
from ecdctr.settings import Settings

TimeUnit = Literal["timestamp", "s", "ms", "us", "date", "day"]


def _offset(text: str) -> str:
    if not re.fullmatch(r"[+-](0\d|1[0-4]):[0-5]\d", text):
        raise ValueError(f"{text!r} is not an offset from UTC; write for example '+08:00'")
    return text


class TimeColumn(Settings):
    """The column that says when an impression happened."""

    column: str
    """Its name in the log."""
    unit: TimeUnit = "timestamp"
    """`timestamp`, seconds/milli-/microseconds since 1970 (`s`, `ms`, `us`), `date`, or `day`: a day number."""
    origin: dt.date | None = None
    """Only for `day`: the date of day 0."""
    format: str | None = None
    """Spark date-time pattern of a text column."""

    @model_validator(mode="after")
    def _origin_belongs_to_day(self) -> "TimeColumn":
        if (self.unit == "day") != (self.origin is not None):
            raise ValueError("'origin' (the date of day 0) goes with unit 'day', and only with it")
        return self


class Columns(Settings):
    """Names of the columns with a fixed meaning."""

    user: str
    """Who saw it."""
    item: str
    """What was shown: content or ad."""
    time: TimeColumn
    label: str | None = None
    """Clicked or not: 0 and 1, or false and true; none where a click log is joined."""
    event_id: list[str] = Field(default_factory=list)
    """One column, or those that together make an impression unique, none of which may be missing; empty: user, item and
    time do."""

    def identity(self) -> list[str]:
        """Columns that together make an impression unique."""
        return self.event_id or [self.user, self.item, self.time.column]


class SideTable(Settings):
    """A table joined to the impressions by a key, for attributes of users or items."""

    path: str
    """File or folder."""
    format: Literal["delta", "parquet", "csv"] = "parquet"
    """How it is stored."""
    key: str
    """Column of the same name on both sides; one row per key."""
    columns: list[str] = Field(min_length=1)
    """Columns to take over."""


class ClickColumns(Settings):
    """Which columns of a click log lead to the impression."""

    user: str
    """Who clicked."""
    item: str
    """What was clicked."""
    time: TimeColumn
    event_id: str | None = None
    """Column with the event id of the impression; without it a click belongs to the latest impression of its user and
    item."""

    def leading(self) -> dict[str, str]:
        """By column of impressions, the one of the clicks that holds its value."""
        return {"user_id": self.user, "item_id": self.item} if self.event_id is None else {"event_id": self.event_id}

    def read(self) -> list[str]:
        """All columns that are read."""
        return [*self.leading().values(), self.time.column]


class Clicks(Settings):
    """A log of clicks that labels the impressions."""

    path: str
    """File or folder."""
    format: Literal["delta", "parquet", "csv"] = "parquet"
    """How it is stored."""
    columns: ClickColumns
    window: Seconds = 3600
    """A click counts less than this long after its impression (`30m`, `1h`, `1d`); only impressions that are older than
    this at the logical date have a label yet."""

    @property
    def days(self) -> int:
        """Days that a click may come after its impression's, rounded up."""
        return math.ceil(self.window / 86_400)


class MadeNegatives(Settings):
    """For a log of clicks alone: rows without a click, made up from what others clicked on the same day."""

    per_click: int = Field(default=4, ge=1, le=100)
    """Rows made for each click, of its user and moment; one that draws the clicked item itself is left out."""
    item_columns: list[str] = Field(default_factory=list)
    """Columns that describe the item and come with the one that is drawn."""


class Source(Settings):
    """One domain's log: a folder or file, or a filter on a table that both domains share."""

    path: str
    """File, folder, or several files by a pattern such as `logs/day_*.csv`."""
    format: Literal["delta", "parquet", "csv"] = "parquet"
    """How it is stored."""
    derive: dict[str, str] = Field(default_factory=dict)
    """Further columns, each a Spark SQL expression over those of the log."""
    where: str | None = None
    """Spark SQL condition, over the log's, derived and side tables' columns, that picks this domain's rows."""
    columns: Columns | None = None
    """Only where this domain's names differ from `dataset.columns`."""
    side_tables: list[SideTable] = Field(default_factory=list)
    clicks: Clicks | None = None
    schema_drift: Literal["fail", "warn"] = "fail"
    """Where a column that is read is missing or has another type in a new file of a local Parquet or CSV log, or in some
    file of its log of clicks or side tables."""
    negatives: MadeNegatives | None = None
    """Only where every row is a click; `derive` then gives the label, such as `{click: "1"}`."""


class ColumnContract(Settings):
    """What the values of one column of the log must be, beyond its type; a row that breaks it is a bad row.

    It is checked before the write, and stands as a constraint on the table.
    """

    required: bool = False
    """Whether a missing value breaks it."""
    min: FiniteFloat | None = None
    """Least value of a number."""
    max: FiniteFloat | None = None
    """Greatest value of a number."""
    values: list[str] | None = Field(default=None, min_length=1)
    """The only texts that an id may be."""
    domains: list[Domain] = Field(default=["natural", "ad"], min_length=1)
    """Whose rows it binds."""

    @model_validator(mode="after")
    def _says_something(self) -> "ColumnContract":
        if not self.required and self.min is None and self.max is None and self.values is None:
            raise ValueError("says nothing; give 'required', 'min', 'max' or 'values'")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class NegativeSampling(Settings):
    """Which share of the rows without a click becomes samples; each then weighs the inverse in the loss."""

    natural: float = Field(default=1.0, gt=0, le=1)
    """Of natural rows, chosen by a hash of the event id; ads are scored as well as trained on, so all of them stay."""

    @model_validator(mode="before")
    @classmethod
    def _ads_stay_whole(cls, given: Any) -> Any:
        if isinstance(given, dict) and {"ad", "ads"} & set(given):
            raise ValueError("ads cannot be sampled: their samples are scored and evaluated as well; sample 'natural'")
        return given


class DatasetConfig(Settings):
    """The natural log, the ad log, and what both mean by their columns."""

    description: str = ""
    """One line for the report's reader."""
    natural: Source
    ads: Source
    columns: Columns
    day_boundary: Annotated[str, AfterValidator(_offset)] = "+00:00"
    """Offset from UTC of the clock whose midnight begins an `event_date`."""
    contract: dict[str, ColumnContract] = Field(default_factory=dict)
    """By column of the log that a feature reads: what its values must be (`price: {required: true, min: 0}`)."""
    drop_bad_rows: bool = False
    """False: a row that breaks the input contract fails the day. True: it goes to `quarantine`, the rest goes on."""
    late_window: DaysOrZero = 0
    """Days that stay open for late rows (`2d`). A new token's id comes this much later: ids are given for closed days alone."""
    simulator: WorldConfig | None = None
    """Where given, `run` makes the logs with the simulator before it reads them."""
    negative_sampling: NegativeSampling = NegativeSampling()
    sample_order: Literal["shuffled", "time"] = "shuffled"
    """Of samples within a day: by a hash over the whole day, or by event time."""
    features: list[FeatureSpec] = Field(default_factory=list)

    def columns_of(self, source: Source) -> Columns:
        """The column names in force for one source."""
        return source.columns or self.columns

    def read_by_minet(self) -> list[str]:
        """Names of the sequences that the arm `minet` alone reads."""
        lists = {spec.name: spec.clicks() for spec in self.features}
        return [name for name, clicks in lists.items() if clicks is not None and clicks.read_by == "minet"]

    def of_rows(self) -> dict[str, Any]:
        """The settings that decide what a prepared row looks like: not where logs lie, and not what ends a preparation."""
        tree: dict[str, Any] = self.model_dump(mode="json")
        tree |= {"description": "", "drop_bad_rows": False}
        if self.natural.clicks is not None or self.ads.clicks is not None:
            # Tables from before clicks had a time know of them from their impression on.
            tree["clicks_count_from"] = "clicked_at"
        for key in ("natural", "ads"):
            source = tree[key] = tree[key] | {"schema_drift": "fail"}
            for place in (source, *source["side_tables"], source["clicks"] or {}):
                place.pop("path", None)
        return tree

    @model_validator(mode="after")
    def _labels_come_from_one_place(self) -> "DatasetConfig":
        for name, source in (("natural", self.natural), ("ads", self.ads)):
            label = self.columns_of(source).label
            if (label is None) == (source.clicks is None):
                raise ValueError(f"{name}: labels come from either 'columns.label' or 'clicks', one of the two")
            if source.negatives is not None and label is None:
                raise ValueError(
                    f"{name}: 'negatives' are for a log in which every row is a click, not for one with 'clicks'"
                )
            item, events = self.columns_of(source).item, self.columns_of(source).event_id
            if source.negatives is not None and len(events) > 1 and item not in events:
                raise ValueError(
                    f"{name}: made rows have all of their click but the item and the label, and 'columns.event_id' names "
                    f"{', '.join(events)}, by which all of them are one event; name {item!r} there as well, or one column alone"
                )
            if source.clicks is not None and source.clicks.columns.event_id is not None and len(events) != 1:
                raise ValueError(
                    f"{name}: 'clicks.columns.event_id' holds the value of one column of the impressions, and their "
                    f"'columns.event_id' names {', '.join(events) or 'none'}; name that one column there, or leave out "
                    "'clicks.columns.event_id': a click then belongs to the latest impression of its user and item"
                )
            if source.clicks is not None and source.clicks.window > self.late_window * 86_400:
                raise ValueError(
                    f"{name}: impressions of a day's last hours get their labels after midnight; late_window must be at "
                    f"least as long as clicks.window ({source.clicks.window} s)"
                )
        return self

    @model_validator(mode="after")
    def _features_fit(self) -> "DatasetConfig":
        check_features(self.features)
        if any("clicked_at" in spec.log_columns() for spec in self.features):
            raise ValueError(
                "a feature reads the log's column 'clicked_at', a name that impressions use for the time of their click; derive another"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_before_where_nothing_is_said(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Digests of tables and models are over this form: without a contract they are what they were before there was one.
        tree: dict[str, Any] = plain(self)
        if not self.contract:
            tree.pop("contract", None)
        return tree

    @model_validator(mode="after")
    def _contract_fits(self) -> "DatasetConfig":
        read: dict[str, set[str]] = {}
        for spec in self.features:
            for name, kind in spec.log_columns().items():
                read.setdefault(name, set()).add(kind)
        for name, rule in self.contract.items():
            if name not in read:
                raise ValueError(f"contract.{name}: no feature reads this column; they read {', '.join(sorted(read))}")
            number = "double" in read[name]
            if number and rule.values is not None:
                raise ValueError(f"contract.{name}: 'values' are for ids, and this column is a number")
            if not number and (rule.min is not None or rule.max is not None):
                raise ValueError(f"contract.{name}: 'min' and 'max' are for numbers, and this column is an id")
        return self
