"""Predictions stand in their table once, in whatever groups versions are published."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecdctr.lake.tables import Lake
from ecdctr.scoring.predictions import append_predictions
from ecdctr.training.predict import SCHEMA

pytestmark = pytest.mark.spark


def test_versions_published_in_other_groups_after_a_kill_are_not_appended_again(spark, tmp_path):
    folders = {}
    for number, version in enumerate(("v1", "v2", "v3")):
        folders[version] = tmp_path / version
        (folders[version] / "rank-0").mkdir(parents=True)
        # The first rows are held-out ones of an earlier day.
        rows = [("held", "u", 19_000, 0.0, 0.5), (f"event-{number}", "u", 19_800 + number, 1.0, 0.25)]
        pq.write_table(
            pa.table(list(zip(*rows, strict=True)), schema=SCHEMA), folders[version] / "rank-0" / "scores.parquet"
        )
    lake = Lake(spark, tmp_path / "warehouse")
    arms = dict.fromkeys(folders, "ecdctr")
    append_predictions(lake, {name: folders[name] for name in ("v1", "v2")}, arms, 1)
    append_predictions(lake, {"v1": folders["v1"]}, arms, 1)
    append_predictions(lake, {name: folders[name] for name in ("v2", "v3")}, arms, 1)
    # A day's further row, beside those that it was scored on before.
    later = tmp_path / "later"
    rows = [("event-1", "u", 19_801, 1.0, 0.5), ("event-9", "u", 19_801, 0.0, 0.125)]
    (later / "rank-0").mkdir(parents=True)
    (later / "rank-1").mkdir()
    for rank, row in enumerate(rows):
        pq.write_table(pa.table([[value] for value in row], schema=SCHEMA), later / f"rank-{rank}" / "scores.parquet")
    for _ in range(2):
        append_predictions(lake, {"v2": later}, arms, 1)
    of_day = {row.event_id: row.probability for row in lake.read("predictions").where("model_version = 'v2'").collect()}
    assert of_day == {"held": 0.5, "event-1": 0.25, "event-9": 0.125}
    found = lake.read("predictions").groupBy("model_version").count().collect()
    assert {row.model_version: row["count"] for row in found} == {"v1": 2, "v2": 3, "v3": 2}
