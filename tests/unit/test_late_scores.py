"""A model that was published before its day's rows were there scores them later, as it would have then."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecdctr.config.training import TablesConfig
from ecdctr.distributed.inline import run_inline
from ecdctr.exceptions import AlreadyDone
from ecdctr.pipelines import publish
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.train import train_one
from ecdctr.scoring.predictions import rows_scored
from ecdctr.training.late_scores import score_published
from ecdctr.training.task import ScoringTask, Start
from tests.unit.test_level_autoft import Days
from tests.unit.test_train_due import Shop, day

pytestmark = pytest.mark.unit


# Ranks that are threads share the filters with which the reader silences its libraries.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("kind", ["plain", "autoft", "sharded"])
def test_later_scores_are_those_of_the_day_itself(tmp_path, kind, ranks):
    days = Days(tmp_path, ranks)
    task = days.task("cpm", 0, Start(kind="scratch"), policy=None)
    if kind == "sharded":
        exchange = task.training.model_copy(update={"tables": TablesConfig(exchange="row_wise")})
        task = task.model_copy(update={"training": exchange})
    days.train(task)
    version = "cpm"
    if kind == "autoft":
        version = "day1"
        task = days.task(version, 1, days.start("warm", "cpm", batch_norm="full"))
        days.train(task)
    later = ScoringTask(
        version=version, files=task.score, training=task.training, seed=9, lanes=3, store=task.store,
        score_dir=str(tmp_path / "scores" / "later"),
    )  # fmt: skip
    assert run_inline(ranks, lambda own: score_published(own, later))[0] == {"rows": task.score.rows}
    assert days.scores("later").equals(days.scores(version))


class Published(Publisher):
    """A publisher of versions that stand in no ledger."""

    def __init__(self, entries, files, stored=None):
        pinned = SimpleNamespace(files=[SimpleNamespace(event_date=date, rows=rows) for date, rows in files])
        self.gone = set()
        store = SimpleNamespace(path=lambda name: Path("/no" if name in self.gone else "/"))
        self.workspace = SimpleNamespace(pinned=lambda table: pinned, lake=stored, store=store)
        self.entries = entries

    def versions(self, level, arm):
        return [entry for entry in self.entries if entry.arm == arm]


def entry(offset: int, **record):
    return SimpleNamespace(
        version=f"v{offset}",
        artifact=f"v{offset}",
        arm="ecdctr",
        date=day(offset),
        metrics_json=json.dumps({"score_seconds": 0.1} | record),
    )


def test_unscored_are_those_whose_day_has_more_rows_than_predictions(monkeypatch):
    monkeypatch.setattr(publish, "rows_scored", lambda stored, days: stored)
    # Two files of three rows a day; of day 7 those of one file are scored, of day 8 none.
    stored = Counter({("v6", day(6)): 6, ("v7", day(7)): 3, ("v7", day(6)): 6})
    publisher = Published(
        [entry(offset) for offset in range(6, 10)], 2 * [(day(offset), 3) for offset in range(9)], stored
    )
    assert [each.version for each in publisher.unscored("ecdctr", day(0), day(20))] == ["v7", "v8"]
    assert [each.version for each in publisher.unscored("ecdctr", day(0), day(7))] == ["v7"]
    assert [each.version for each in publisher.unscored("ecdctr", day(8), day(20))] == ["v8"]
    assert publisher.unscored("target_only", day(0), day(20)) == []
    # What had no row when it was published is looked for however old it is.
    publisher.entries[1].metrics_json = "{}"
    assert [each.version for each in publisher.unscored("ecdctr", day(20), day(20))] == ["v7"]


def test_a_version_without_files_scores_nothing_any_more_and_stops_nobody(monkeypatch, caplog):
    monkeypatch.setattr(publish, "rows_scored", lambda stored, days: Counter())
    publisher = Published([entry(7), entry(8)], [(day(7), 3), (day(8), 3)])
    publisher.gone = {"v7"}
    assert [each.version for each in publisher.unscored("ecdctr", day(0), day(20))] == ["v8"]
    assert "v7 cannot score: their files are gone" in caplog.text


def test_the_next_days_training_scores_them(monkeypatch):
    shop = Shop("ecdctr")
    shop.late = [SimpleNamespace(version="actr-ecdctr-2024-01-13")]
    monkeypatch.setattr("ecdctr.pipelines.train.Publisher", lambda _: shop)
    monkeypatch.setattr("ecdctr.pipelines.train.Levels", lambda *_: shop)
    made = train_one(shop, "actr", day(13))
    assert made["scored"] == ["actr-ecdctr-2024-01-13"] == [each.version for each in shop.scored]
    assert len(made["versions"]) == 1
    # There is something to do where a day is published and only its scores are missing.
    assert train_one(shop, "actr", day(13))["versions"] == []
    shop.late = []
    with pytest.raises(AlreadyDone):
        train_one(shop, "actr", day(13))


def test_predictions_are_counted_in_the_days_files(tmp_path):
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table({"model_version": ["a", "b", "a"]}), path)
    asked = []

    def pin(table, since, until):
        asked.append((table, since, until))
        return SimpleNamespace(
            files=[SimpleNamespace(path=str(path), event_date=day(offset)) for offset in (3, 3, 4, 5)]
        )

    lake = SimpleNamespace(exists=lambda table: True, pin=pin)
    assert rows_scored(lake, {day(3), day(5)}) == {
        ("a", day(3)): 4, ("b", day(3)): 2, ("a", day(5)): 2, ("b", day(5)): 1
    }  # fmt: skip
    assert asked == [("predictions", day(3), day(6))]
    assert not rows_scored(lake, set())
    assert not rows_scored(SimpleNamespace(exists=lambda table: False), {day(3)})
