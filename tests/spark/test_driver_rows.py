"""What comes to the driver while days are prepared does not grow with rows, users, items or tokens."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from pyspark.sql.classic.dataframe import DataFrame

from ecdctr.etl.prepare import prepare
from ecdctr.lake.tables import Lake

pytestmark = [pytest.mark.spark, pytest.mark.campaign]

START = dt.date(2024, 1, 1)
ROWS, DAYS = 3_000, 2
FEATURES = [
    {"name": "category", "kind": "id"},
    {"name": "pair", "kind": "cross", "sources": ["user_id", "category"]},
    {"name": "price", "kind": "number", "transform": "standardise"},
    {"name": "age", "kind": "age", "boundaries": [1]},
    {"name": "mine", "kind": "rate", "of": ["user_id"], "windows": ["2d"]},
    {"name": "clicked", "kind": "sequence", "length": 3},
]


@pytest.fixture
def collected(monkeypatch):
    """Numbers of rows that came to the driver, by the way they came."""
    found: list[tuple[str, int]] = []
    for name in ("collect", "toPandas", "_collect_as_arrow", "take", "head", "tail"):
        real = getattr(DataFrame, name)

        def counted(self, *args, _real=real, _name=name, **options):
            rows = _real(self, *args, **options)
            found.append((_name, len(rows) if rows is not None else 0))
            return rows

        monkeypatch.setattr(DataFrame, name, counted)
    monkeypatch.setattr(DataFrame, "toLocalIterator", lambda *_: pytest.fail("rows pass through the driver"))
    return found


def test_few_rows_come_to_the_driver_however_many_there_are(spark, make_config, tmp_path, collected):
    rng = np.random.default_rng(3)
    (tmp_path / "raw").mkdir()
    for name, rows in (("natural", ROWS), ("ads", ROWS // 10)):
        place = np.arange(rows)
        pd.DataFrame(
            {
                "event_id": [f"{name}{n}" for n in place],
                "user_id": place % (rows // 2),
                "item": [f"{name}-{n % (rows // 3)}" for n in place],
                "ts": pd.Timestamp(START) + pd.to_timedelta(place * DAYS * 86_400 // rows, unit="s"),
                "click": rng.integers(0, 2, rows),
                "category": [f"c{n % 700}" for n in place],
                "price": rng.choice([1.0, 2.5, 4.0], rows),
            }
        ).to_parquet(tmp_path / "raw" / f"{name}.parquet", coerce_timestamps="us", index=False)
    config = make_config(features=FEATURES, top={"vocabularies": {}})
    summary = prepare(spark, config, None)
    assert summary.rows == {"natural": ROWS, "ad": ROWS // 10}
    assert Lake(spark, config.warehouse_dir).snapshot("vocabulary").rows > 1_000
    assert collected
    # Files, days and vocabularies are counted on the driver, and rounded values of numbers; here a few of each.
    assert max(rows for _, rows in collected) < 60, collected
