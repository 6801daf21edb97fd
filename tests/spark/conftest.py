"""A small log of two domains, written as a user would have it, and its configuration."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from ecdctr.config import Config
from ecdctr.etl.preparation import PrepareSummary
from ecdctr.etl.prepare import prepare
from ecdctr.lake.tables import Lake

START = dt.date(2024, 1, 1)
FEATURES = [
    {"name": "category", "kind": "id"},
    {"name": "last_category", "kind": "id", "vocabulary": "category"},
    {"name": "position", "kind": "bucket", "boundaries": [1, 3]},
    {"name": "price", "kind": "number"},
    {"name": "hour", "kind": "time", "part": "hour"},
    {"name": "weekday", "kind": "time", "part": "weekday"},
    {"name": "user_device", "kind": "cross", "sources": ["user_id", "device"]},
    {"name": "clicked_items", "kind": "sequence", "length": 4},
    {"name": "clicked_ads", "kind": "sequence", "length": 3, "domains": ["ad"], "delay_seconds": 3600},
]


def make_log(domain: str, days: int, rows_per_day: int, seed: int = 0) -> pd.DataFrame:
    """Impressions with many ties in time, missing values, and ids that no float could hold."""
    rng = np.random.default_rng([seed, domain == "ad"])
    rows = days * rows_per_day
    day = np.repeat(np.arange(days), rows_per_day)
    return pd.DataFrame(
        {
            "event_id": [f"{domain}-{place}" for place in range(rows)],
            "user_id": 2**53 + rng.zipf(1.4, rows) % 12,
            "item": [f"i{item}" for item in rng.zipf(1.3, rows) % 15],
            "ts": pd.Timestamp(START) + pd.to_timedelta(day * 24 + rng.integers(0, 24, rows), unit="h"),
            "click": rng.integers(0, 2, rows),
            "category": rng.choice(["a", "b", "c", None], rows),
            "last_category": rng.choice(["a", "d", ""], rows),
            "position": rng.integers(0, 5, rows),
            "price": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(0, 100, rows)),
            "device": rng.choice(["phone", "tablet"], rows),
        }
    )


def small_config(folder: Path, name: str, top: dict[str, Any], dataset: dict[str, Any]) -> Config:
    """A configuration over `folder/raw` and `folder/warehouse`."""
    grow = {"item_id", *(spec["name"] for spec in dataset.get("features", FEATURES))}
    vocabularies = {"item_id": {"min_count": 3, "oov_buckets": 2}, "category": {"share_domains": False}}
    tree: dict[str, Any] = {
        "name": name,
        "warehouse": str(folder / "warehouse"),
        "lanes": 3,
        "vocabularies": {each: rules for each, rules in vocabularies.items() if each in grow},
        "dataset": {
            "natural": {"path": str(folder / "raw" / "natural.parquet")},
            "ads": {"path": str(folder / "raw" / "ads.parquet")},
            "columns": {
                "user": "user_id",
                "item": "item",
                "time": {"column": "ts"},
                "label": "click",
                "event_id": ["event_id"],
            },
            "features": FEATURES,
        }
        | dataset,
    }
    return Config.model_validate(tree | top)


Change = Callable[[str, pd.DataFrame], pd.DataFrame]


def write_small_logs(folder: Path, days: int, change: Change) -> dict[str, pd.DataFrame]:
    """Raw logs of both domains; the second day has no ad."""
    (folder / "raw").mkdir(exist_ok=True)
    frames = {}
    for domain, file, rows in (("natural", "natural", 40), ("ad", "ads", 10)):
        frame = make_log(domain, days, rows)
        if domain == "ad":
            frame = frame[frame["ts"].dt.day != START.day + 1].reset_index(drop=True)
        frames[domain] = change(domain, frame)
        # The natural log as pandas writes it: times in nanoseconds, which Spark alone does not read.
        unit = None if domain == "natural" else "us"
        frames[domain].to_parquet(folder / "raw" / f"{file}.parquet", coerce_timestamps=unit, index=False)
    return frames


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    """Configurations over `tmp_path`; keyword arguments replace keys of `dataset`, `top` those above it."""

    def make(name: str = "small", top: dict[str, Any] | None = None, **dataset: Any) -> Config:
        return small_config(tmp_path, name, top or {}, dataset)

    return make


@pytest.fixture
def write_logs(tmp_path: Path) -> Callable[..., dict[str, pd.DataFrame]]:
    """Writes raw logs under `tmp_path`; `change` may alter each domain's frame first."""

    def write(days: int = 4, change: Change = lambda domain, frame: frame) -> dict[str, pd.DataFrame]:
        return write_small_logs(tmp_path, days, change)

    return write


@dataclass(frozen=True)
class Prepared:
    """Logs of four days and what one preparation of all of them gave; tests only read it."""

    frames: dict[str, pd.DataFrame]
    config: Config
    lake: Lake
    summary: PrepareSummary


@pytest.fixture(scope="session")
def whole(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The logs that `write_logs` writes, prepared all at once."""
    folder = tmp_path_factory.mktemp("whole")
    frames = write_small_logs(folder, 4, lambda domain, frame: frame)
    config = small_config(folder, "whole", {}, {})
    summary = prepare(spark, config, None)
    return Prepared(frames, config, Lake(spark, config.warehouse_dir), summary)
