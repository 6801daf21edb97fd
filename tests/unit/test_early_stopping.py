"""Early stopping: the epoch that later days like best is published, and nobody sees a day that is evaluated."""

import datetime as dt

import pytest

from ecdctr.config.training import EarlyStoppingConfig, TrainingConfig
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.tasks import Signals
from ecdctr.exceptions import IntegrityError, NotReadyError, TemporaryError
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.levels import Levels, trained_until
from ecdctr.report.schema import Version
from ecdctr.training.early_stopping import best, exhausted, summary_of
from ecdctr.training.level import train_level
from ecdctr.training.task import Start
from tests.unit.test_level_autoft import Days, samples
from tests.unit.test_levels_baselines import Ledger, day

pytestmark = pytest.mark.unit

# Ranks that are threads share the filters with which the reader silences its libraries.
quiet = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def looks(metric: str, *values: float | None) -> list[dict]:
    return [{"epoch": at + 1, "step": 10 * at, "rows": 5, metric: value} for at, value in enumerate(values)]


def test_the_best_epoch_is_the_first_that_no_later_one_beats_by_the_gain_asked_for():
    loss = EarlyStoppingConfig(days=1, patience=2)
    assert best(looks("log_loss", 0.5, 0.4, 0.4, 0.45), loss) == 1
    assert not exhausted(looks("log_loss", 0.5, 0.4, 0.45), loss)
    assert exhausted(looks("log_loss", 0.5, 0.4, 0.45, 0.41), loss)
    assert not exhausted([], loss)
    assert best(looks("auc", 0.6, 0.605, 0.62), EarlyStoppingConfig(days=1, metric="auc", min_gain=0.01)) == 2
    gauc = EarlyStoppingConfig(days=1, metric="gauc")
    assert best(looks("gauc", None, 0.5, None, 0.4), gauc) == 1
    assert best(looks("gauc", None, None), gauc) == 0
    assert exhausted(looks("gauc", None, None), gauc)
    assert summary_of([], gauc) is None


def test_one_epoch_leaves_nothing_to_stop():
    with pytest.raises(ValueError, match="stops between epochs, so raise epochs"):
        TrainingConfig(early_stopping={"days": 1})


def task_of(days: Days, version: str, ranks: int, **training):
    task = days.task(version, 1, Start(kind="scratch"), policy=None)
    settings = {"batch_size": 32, "dense_learning_rate": 0.02, "sparse_learning_rate": 0.5, "checkpoint_steps": 3}
    stops = {"validation": [samples(days.root / "data", 2)]} if "early_stopping" in training else {}
    return task.model_copy(
        update={"ranks": ranks, "training": TrainingConfig(**settings | training), "score": None} | stops
    )


def train(task, signals=None):
    return run_inline(task.ranks, lambda ranks: train_level(ranks, task, signals or Signals()))


@quiet
@pytest.mark.timeout(120)
@pytest.mark.parametrize("ranks", [1, 2])
def test_what_is_published_is_the_training_of_the_best_epochs_alone_also_after_interruptions(tmp_path, ranks):
    days = Days(tmp_path)
    stopping = {"epochs": 12, "early_stopping": {"days": 1, "patience": 2}}
    records = train(task_of(days, "stopped", ranks, **stopping))
    found = records[0]["early_stopping"]
    assert all(record["early_stopping"] == found for record in records)
    assert 1 <= found["best_epoch"] == found["epochs"] - 2 < 10
    assert [look["epoch"] for look in found["looks"]] == list(range(1, found["epochs"] + 1))
    assert min(look["log_loss"] for look in found["looks"]) == found["looks"][found["best_epoch"] - 1]["log_loss"]
    assert found["looks"][0]["rows"] == 256

    plain = train(task_of(days, "plain", ranks, epochs=found["best_epoch"]))[0]
    assert records[0]["digest"] == plain["digest"]
    assert (records[0]["steps"], records[0]["rows"]) == (plain["steps"], plain["rows"])
    assert plain["early_stopping"] is None
    parts = {"model", "parameters", "footers", "open_files", "first_batch", "first_step"}
    assert plain["opening"].keys() == parts
    assert 0 < sum(plain["opening"].values()) < plain["seconds"]

    broken, stops = task_of(days, "broken", ranks, **stopping), 0
    # 8 steps make an epoch: stops within them, and right before a look.
    for attempt in range(100):
        steps = iter(range((3 + 4 * (attempt % 2)) * ranks))
        signals = Signals(stop_requested=lambda left=steps: next(left, None) is None)
        try:
            record = train(broken, signals)[0]
            break
        except TemporaryError:
            stops += 1
    assert stops > 3
    assert record["digest"] == plain["digest"]
    assert record["early_stopping"] == found
    assert not (days.root / "checkpoints" / "broken").exists()


@quiet
def test_a_lost_checkpoint_of_the_best_epoch_is_named(tmp_path, monkeypatch):
    days = Days(tmp_path)
    task = task_of(days, "lost", 1, epochs=12, early_stopping={"days": 1})
    monkeypatch.setattr("ecdctr.training.level_loop.LevelLoop._whole", lambda self, folder: set())
    with pytest.raises(IntegrityError, match="the checkpoint of its best epoch"):
        train(task)


def test_the_days_held_back_end_where_the_version_s_sight_ends_and_are_trained_on_by_the_next(tmp_path):
    ledger = Ledger(
        *(f"levels.actr.training.{key}" for key in ("epochs=3", "early_stopping.days=1")), "arms=[target_only]"
    )
    levels = Levels(ledger, ledger)

    def days_of(files) -> list[int]:
        return sorted({int(path.rsplit("-", 1)[1]) for part in files for path, _ in part.files})

    first = levels.actr(day(10), ARMS["target_only"], score=True)
    assert days_of(ledger.tasks[-1].train) == [7, 8]
    assert days_of(ledger.tasks[-1].validation) == [9]
    assert (first.window_from, first.window_until, trained_until(first)) == (day(7), day(10), day(9))
    second = levels.actr(day(11), ARMS["target_only"], score=True)
    assert days_of(ledger.tasks[-1].train) == [9]
    assert days_of(ledger.tasks[-1].validation) == [10]
    assert days_of([ledger.tasks[-1].score]) == [11]
    assert trained_until(second) == day(10)
    with pytest.raises(NotReadyError, match="holds back 1 days, and the window"):
        levels.actr(day(1), ARMS["target_only"], score=True)


def test_joint_training_holds_back_the_last_day_of_both_logs_and_looks_at_the_ads():
    ledger = Ledger("joint.training.epochs=2", "joint.training.early_stopping.days=2")
    Levels(ledger, ledger).actr(day(10), ARMS["mmoe"], score=True)
    task = ledger.tasks[-1]
    last = {part.table: max(path for path, _ in part.files) for part in task.train}
    assert last == {"ad_samples": "ad_samples-7", "natural_samples": "natural_samples-7"}
    assert [path for part in task.validation for path, _ in part.files] == ["ad_samples-8", "ad_samples-9"]


def test_a_report_takes_what_a_record_says():
    found = summary_of(
        [look | {"auc": None, "gauc": 0.5} for look in looks("log_loss", 0.5, 0.6)], EarlyStoppingConfig(days=1)
    )
    version = Version(
        version="v", parents=[], window=(dt.date(2024, 1, 1), dt.date(2024, 1, 2)), rows=1, steps=1, seconds=1.0,
        samples_per_second=1.0, peak_rss_bytes=1, parameters=1, train_log_loss=0.5, early_stopping=found,
    )  # fmt: skip
    assert version.early_stopping is not None
    assert version.early_stopping.best_epoch == 1
