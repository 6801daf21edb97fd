"""An empty day, an empty domain, a day of one class: no hang, and null where a metric cannot be computed."""

import datetime as dt
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecdctr.config import load_config
from ecdctr.config.training import EarlyStoppingConfig
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.tasks import Signals
from ecdctr.exceptions import IntegrityError, NotReadyError
from ecdctr.lake.delta_log import PinnedFile
from ecdctr.pipelines import evaluate as evaluation
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.daily import walk_window
from ecdctr.pipelines.levels import Levels
from ecdctr.pipelines.popularity import popularity_auc
from ecdctr.report.html import render_html
from ecdctr.report.schema import Report
from ecdctr.report.table import render_table
from ecdctr.training.level import train_level
from ecdctr.training.task import Files, Start
from tests.unit.test_level_autoft import Days, samples
from tests.unit.test_levels_baselines import Ledger, day
from tests.unit.test_report_whole import example

pytestmark = pytest.mark.unit

NULLS = {"auc", "binned_auc", "gauc", "gauc_clicks", "gauc_mean", "normalized_entropy"}
NOTHING = Files(table="ad_samples", version=1, files=[])


def relabelled(files: Files, label: float) -> Files:
    for path, _ in files.files:
        table = pq.read_table(path)
        column = pa.array(np.full(table.num_rows, label), pa.float32())
        pq.write_table(table.set_column(table.column_names.index("label"), "label", column), path)
    return files


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    made = Days(tmp_path_factory.mktemp("days"))
    made.train(made.task("day1", 1, Start(kind="scratch"), policy=None))
    return made


def trained(days, version, train, score):
    """A version that two ranks make, going on from day 1; gives its record and scores."""
    task = days.task(version, 2, days.start("continue", "day1"), policy=None)
    task = task.model_copy(update={"train": [train], "score": score, "ranks": 2})
    records = run_inline(2, lambda ranks: train_level(ranks, task, Signals()))
    return records[0], days.scores(version)


def finite(record) -> bool:
    """Whether JSON has a word for all of it: the ledger keeps it as JSON."""
    json.dumps(record, allow_nan=False)
    return True


# Ranks that are threads share the filters with which the reader silences its libraries.
quiet = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@quiet
@pytest.mark.timeout(120)
def test_a_day_without_rows_leaves_the_parameters_and_scores_none(days):
    before, _ = trained(days, "again", samples(days.root / "data", 1), NOTHING)
    record, scores = trained(days, "nothing", NOTHING, NOTHING)
    first = json.loads((days.folder("day1") / "manifest.json").read_text())["record"]
    assert record["digest"] == first["digest"] != before["digest"]
    assert (record["rows"], record["steps"], scores.num_rows) == (0, 0, 0)
    assert record["train_log_loss"] is None
    assert finite(record)


@quiet
@pytest.mark.timeout(120)
def test_early_stopping_has_nothing_to_look_at_again_after_a_day_without_rows(days):
    task = days.task("stopped", 2, days.start("continue", "day1"), policy=None)
    training = task.training.model_copy(update={"epochs": 3, "early_stopping": EarlyStoppingConfig(days=1)})
    held = samples(days.root / "data", 4)
    task = task.model_copy(update={"train": [NOTHING], "validation": [held], "training": training})
    record = days.train(task)
    assert (record["steps"], record["rows"]) == (0, 0)
    assert finite(record)


@quiet
@pytest.mark.timeout(120)
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_day_of_one_class_is_trained_on(days, label):
    (days.root / f"one{label}").mkdir()
    (days.root / f"next{label}").mkdir()
    train = relabelled(samples(days.root / f"one{label}", 2), label)
    score = relabelled(samples(days.root / f"next{label}", 3), label)
    record, scores = trained(days, f"one{label}", train, score)
    assert finite(record)
    assert (record["rows"], scores.num_rows) == (256, 256)
    assert math.isfinite(record["log_odds"])
    assert (record["log_odds"] > 0) == (label == 1.0)
    probability = scores["probability"].to_numpy()
    assert np.isfinite(probability).all()
    assert ((probability > 0) & (probability < 1)).all()


def test_a_level_without_rows_is_not_ready_and_goes_on_where_it_has_a_yesterday():
    ledger = Ledger("arms=[target_only]")
    levels = Levels(ledger, ledger)
    kept = ledger.pinned

    def without(*gone):
        def pinned(table):
            files = [file for file in kept(table).files if file.event_date not in gone]
            return SimpleNamespace(files=files, version=8)

        return pinned

    ledger.pinned = without(*(day(offset) for offset in range(7, 10)))
    with pytest.raises(NotReadyError, match="ad_samples has no rows in"):
        levels.actr(day(10), ARMS["target_only"], score=True)
    ledger.pinned = kept
    levels.actr(day(10), ARMS["target_only"], score=True)
    ledger.pinned = without(day(10))
    entry = levels.actr(day(11), ARMS["target_only"], score=True)
    assert (entry.window_from, entry.window_until) == (day(10), day(11))
    assert ledger.tasks[-1].train[0].rows == 0


def test_an_empty_domain_is_named():
    config = load_config(Path(__file__).parents[2] / "conf" / "datasets" / "simulated.yml")
    nothing = SimpleNamespace(pinned=lambda table: SimpleNamespace(files=[], version=1))
    with pytest.raises(NotReadyError, match="ad_samples has no rows"):
        walk_window(config, nothing, None, None)


WALKED = [dt.date(2024, 1, 5) + dt.timedelta(days=offset) for offset in range(4)]


def predictions(arms, labels):
    """Scores of 40 rows a day; `labels` gives each day's click of a row, None a day without rows."""
    rng = np.random.default_rng(0)
    rows = []
    for arm in arms:
        for date, label in zip(WALKED, labels, strict=True):
            rows += [
                {
                    "event_id": f"{date}-{row}", "user_id": f"u{row % 8}", "label": label(row),
                    "probability": float(rng.uniform(0.01, 0.99)), "model_version": f"{arm}-{date}", "arm": arm,
                    "event_date": date,
                }
                for row in range(40 if label else 0)
            ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def evaluated(monkeypatch, tmp_path):
    def run(*labels):
        frame = predictions(["ecdctr", "target_only"], labels)
        monkeypatch.setattr(evaluation, "load_predictions", lambda *_: frame)
        parts = pd.DataFrame({"cold": False}, index=pd.Index(frame["event_id"].unique(), name="event_id"))
        monkeypatch.setattr(evaluation, "segments", lambda *_: parts)
        files = []
        for date, of_day in frame[frame["arm"] == "ecdctr"].groupby("event_date"):
            path = tmp_path / f"{date}.parquet"
            item = pa.array(np.arange(len(of_day)) % 5)
            label = of_day["label"].to_numpy().astype("float32")
            pq.write_table(pa.table({"event_id": of_day["event_id"].tolist(), "item_id": item, "label": label}), path)
            files.append(PinnedFile(str(path), len(of_day), 1, date))
        config = SimpleNamespace(arms=["ecdctr", "target_only"], seed=1)
        ledger = SimpleNamespace(versions=list)
        workspace = SimpleNamespace(config=config, ledger=ledger, pinned=lambda table: SimpleNamespace(files=files))
        return evaluation.evaluate(workspace, WALKED[0], WALKED[-1] + dt.timedelta(days=1))

    return run


def none(row):
    return 0


def every(row):
    return 1


def some(row):
    return int(row % 3 == 0)


def reported(found) -> Report:
    """The example's report with these figures in it, after a trip through JSON."""
    tree = example()
    tree |= {"daily": found.daily["ecdctr"], "pooled": found.pooled["ecdctr"], "differences": found.differences}
    tree["transfer"]["differences"] = [d for d in found.differences if d["arm"] == "ecdctr"]
    tree["arms"] = {
        arm: {"daily": found.daily[arm], "pooled": found.pooled[arm], "title": arm} for arm in ("ecdctr", "target_only")
    }
    tree |= {"calibration": found.calibration, "by_activity": found.by_activity, "cold_users": found.cold_users}
    tree["constants"] = {"popularity_auc": found.popularity_auc, "constant_auc": 0.5}
    report = Report.model_validate(tree)
    return Report.model_validate_json(json.dumps(report.tree(), allow_nan=False))


def test_days_of_one_class_have_nulls_and_a_log_loss(evaluated):
    found = evaluated(some, none, every, some)
    mixed, empty, full, _ = found.daily["ecdctr"]
    assert all(mixed[name] is not None for name in NULLS)
    for metrics in (empty, full):
        assert {name for name, value in metrics.items() if value is None} >= NULLS
        assert metrics["log_loss"] > 0
    assert (empty["pcoc"], empty["clicks"], full["clicks"]) == (None, 0, 40)
    assert full["pcoc"] == pytest.approx(
        predictions(["ecdctr"], [some, none, every, some])["probability"][80:120].mean()
    )
    # Pooled, both classes are there.
    assert found.pooled["ecdctr"]["auc"] is not None
    report = reported(found)
    assert report.daily[1].auc is None
    assert report.pooled.expected_calibration_error is not None
    page = render_html(report)
    assert "<svg" in page
    assert f"<br>1 is calibrated; ECE {report.pooled.expected_calibration_error:.4f}" in page
    assert f"<td>{report.pooled.gauc_mean:.4f}</td>" in page


def test_a_day_without_rows_is_no_day_of_the_report(evaluated):
    found = evaluated(some, None, some, some)
    assert [row["date"] for row in found.daily["ecdctr"]] == [str(WALKED[at]) for at in (0, 2, 3)]
    assert "<svg" in render_html(reported(found))


@pytest.mark.parametrize("label", [none, every])
def test_a_walk_of_one_class_answers_nothing(evaluated, label):
    found = evaluated(label, label, label, label)
    assert {name for name, value in found.pooled["ecdctr"].items() if value is None} >= NULLS
    assert found.popularity_auc is None
    assert not [d for d in found.differences if d["metric"] in ("auc", "gauc")]
    report = reported(found)
    assert "cannot answer" in render_table(report)
    page = render_html(report)
    assert "These days cannot answer it" in page
    assert "nan" not in page.lower().replace("nanos", "")


def test_popularity_of_nothing_is_null():
    nothing = SimpleNamespace(pinned=lambda table: SimpleNamespace(files=[]))
    rows = pd.DataFrame({"event_id": pd.Series(dtype=str), "label": pd.Series(dtype=int)})
    assert popularity_auc(nothing, WALKED[0], WALKED[1], rows) is None


def test_popularity_is_judged_on_the_evaluated_rows_and_their_labels(tmp_path):
    # Ad 1 was clicked once in two impressions, ad 2 never in two, ad 3 is unknown: ¼ of all impressions were clicked.
    days = {
        WALKED[0]: (["a", "b", "c", "d"], [1, 1, 2, 2], [1, 0, 0, 0]),
        WALKED[1]: (["e", "f", "g", "h"], [1, 2, 3, 2], [0, 1, 0, 1]),
    }
    files = []
    for date, (events, items, labels) in days.items():
        path = tmp_path / f"{date}.parquet"
        pq.write_table(pa.table({"event_id": events, "item_id": items, "label": pa.array(labels, pa.float32())}), path)
        files.append(PinnedFile(str(path), 4, 1, date))
    workspace = SimpleNamespace(pinned=lambda table: SimpleNamespace(files=files))

    def found(**labels: int) -> float | None:
        rows = pd.DataFrame({"event_id": list(labels), "label": list(labels.values())})
        return popularity_auc(workspace, WALKED[1], WALKED[2], rows)

    # Scores 6/22, 5/22, ¼ and 5/22: the one click on ad 1 beats ad 2 and ad 3, in whatever order they are given.
    assert found(e=1, f=0, g=0) == found(g=0, f=0, e=1) == 1.0
    # The row h is left out, and the labels are those that the arms are judged on.
    assert found(e=0, f=1, g=0) == 0.0
    assert found(e=0, f=1, g=0, h=0) == pytest.approx(0.5 / 3)
    assert found(e=0, f=1, g=1) == 0.0
    assert found(e=0) is None


def test_arms_are_compared_on_the_rows_that_all_of_them_have_scored(evaluated, monkeypatch, caplog):
    whole = evaluated(some, some, some, some)
    given = evaluation.load_predictions(None)
    late = given[~((given["arm"] == "ecdctr") & (given["event_id"] == given["event_id"].iloc[0]))]
    monkeypatch.setattr(evaluation, "_of_all_arms", lambda frame, arms, of=evaluation._of_all_arms: of(late, arms))
    found = evaluated(some, some, some, some)
    rows = whole.pooled["ecdctr"]["rows"]
    assert (found.pooled["ecdctr"]["rows"], found.pooled["target_only"]["rows"]) == (rows - 1, rows - 1)
    assert "1 rows that not every arm has scored are left out" in caplog.text


def test_arms_whose_labels_were_others_when_they_were_walked_are_not_evaluated(evaluated, monkeypatch):
    kept = evaluation._of_all_arms

    def walked_before(frame, arms):
        frame.loc[frame.index[frame["arm"] == "target_only"][:3], "label"] ^= 1
        return kept(frame, arms)

    monkeypatch.setattr(evaluation, "_of_all_arms", walked_before)
    with pytest.raises(
        IntegrityError, match="target_only and ecdctr were given different labels in 3 of 160 rows"
    ) as found:
        evaluated(some, some, some, some)
    assert "first on 2024-01-05" in found.value.message
    assert "walk all arms anew" in found.value.hint


def test_scored_rows_that_have_left_the_log_are_not_cold(evaluated, monkeypatch, caplog):
    parts = pd.DataFrame(
        {"cold": True}, index=pd.Index([f"{WALKED[0]}-{row}" for row in range(3, 40)], name="event_id")
    )
    monkeypatch.setattr(evaluation, "known", lambda frame, _, of=evaluation.known: of(frame, parts))
    found = evaluated(some, none, none, none)
    assert "123 scored rows that ad_impressions no longer has are left out" in caplog.text
    assert found.pooled["ecdctr"]["rows"] == found.pooled["target_only"]["rows"] == 37
    assert found.cold_users["ecdctr"]["warm"]["rows"] == 37
