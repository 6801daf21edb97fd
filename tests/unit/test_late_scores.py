"""A model that was published before its day's rows were there scores them later, as it would have then."""

import datetime as dt
import json
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
from ecdctr.scoring.predictions import has_predictions
from ecdctr.training.late_scores import score_published
from ecdctr.training.task import ScoringTask, Start
from tests.unit.test_level_autoft import Days
from tests.unit.test_train_due import START, Shop, day

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

    def __init__(self, entries, files, stored=()):
        pinned = SimpleNamespace(files=[SimpleNamespace(event_date=date) for date in files])
        self.workspace = SimpleNamespace(pinned=lambda table: pinned, lake=stored)
        self.entries = entries

    def versions(self, level, arm):
        return [entry for entry in self.entries if entry.arm == arm]


def entry(offset: int, **record):
    date = day(offset)
    return SimpleNamespace(version=f"v{offset}", arm="ecdctr", date=date, metrics_json=json.dumps(record))


def test_unscored_are_those_whose_day_has_rows_and_no_predictions(monkeypatch):
    monkeypatch.setattr(publish, "has_predictions", lambda stored, version, date: version in stored)
    entries = [entry(5, score_seconds=0.1), entry(6), entry(7), entry(8), entry(9)]
    publisher = Published(entries, [day(offset) for offset in range(9)], stored=("v6",))
    assert [each.version for each in publisher.unscored("ecdctr", day(20))] == ["v7", "v8"]
    assert [each.version for each in publisher.unscored("ecdctr", day(7))] == ["v7"]
    assert publisher.unscored("target_only", day(20)) == []


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


def test_predictions_are_looked_for_in_the_days_files(tmp_path):
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table({"model_version": ["a", "b", "a"]}), path)
    asked = []

    def pin(table, since, until):
        asked.append((table, since, until))
        return SimpleNamespace(files=[SimpleNamespace(path=str(path))])

    lake = SimpleNamespace(exists=lambda table: True, pin=pin)
    assert has_predictions(lake, "b", START)
    assert not has_predictions(lake, "c", START)
    assert asked[0] == ("predictions", START, START + dt.timedelta(days=1))
    assert not has_predictions(SimpleNamespace(exists=lambda table: False), "b", START)
