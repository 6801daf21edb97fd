"""What a comparison is made of: the holdout, who is compared with whom, means over seeds, costs, forgetting."""

import datetime as dt
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecdctr.config.schema import HoldoutConfig
from ecdctr.config.training import EarlyStoppingConfig, TrainingConfig
from ecdctr.exceptions import InputError
from ecdctr.lake.delta_log import PinnedFile
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.metrics import auc, expected_calibration_error, gauc, gauc_clicks, gauc_mean, paired_bootstrap
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.cost import cost, mean_cost, train_seconds
from ecdctr.pipelines.differences import differences, pairs
from ecdctr.pipelines.holdout import held_out, holdout_before, holdout_of_walk
from ecdctr.pipelines.scored import Scored, mean_metrics

pytestmark = pytest.mark.unit

START = dt.date(2024, 1, 1)


def day(offset: int) -> dt.date:
    return START + dt.timedelta(days=offset)


def file(offset: int, part: int, rows: int = 10) -> PinnedFile:
    return PinnedFile(
        f"/lake/ad_samples/event_date={day(offset)}/part-{part:05d}-x.parquet", rows, rows * 60, day(offset)
    )


def test_one_lane_of_each_held_day_is_held_out_and_a_day_of_one_file_is_not():
    files = [file(offset, part) for offset in range(6) for part in ((0, 1, 2) if offset != 3 else (0,))]
    found = held_out(files[::-1], HoldoutConfig(since=day(2), until=day(5)))
    assert found == {file(2, 0).path, file(4, 0).path}
    assert held_out(files, None) == set()


def test_the_holdout_ends_where_the_walk_begins_and_starts_no_earlier_than_the_log():
    assert holdout_before(day(8), 3, START) == HoldoutConfig(since=day(5), until=day(8))
    assert holdout_before(day(2), 3, START) == HoldoutConfig(since=START, until=day(2))
    assert holdout_before(START, 3, START) is None
    assert holdout_before(day(8), 0, START) is None


def test_what_is_held_out_is_what_was_asked_for_else_what_is_configured_else_three_days():
    configured = HoldoutConfig(since=day(2), until=day(4))
    assert holdout_of_walk(None, day(8), None, START) == HoldoutConfig(since=day(5), until=day(8))
    assert holdout_of_walk(None, day(8), 1, START) == HoldoutConfig(since=day(7), until=day(8))
    assert holdout_of_walk(None, day(8), 0, START) is None
    assert holdout_of_walk(configured, day(8), None, START) == configured
    assert holdout_of_walk(configured, day(8), 0, START) is None
    assert holdout_of_walk(configured, day(4), 2, START) == configured


@pytest.mark.parametrize(
    ("since", "days", "said"),
    [
        (8, 3, r"--forgetting-days 3 holds out rows of 2024-01-06 … 2024-01-08, holdout .* those of 2024-01-03 … 2024-01-04"),
        (0, 3, r"--forgetting-days 3 holds out rows of no day, holdout"),
        (3, None, r"rows of 2024-01-03 … 2024-01-04, expected days before the walk, which begins on 2024-01-04"),
    ],
)  # fmt: skip
def test_a_holdout_that_is_not_the_one_asked_for_or_reaches_into_the_walk_is_refused(since, days, said):
    with pytest.raises(InputError, match=said) as found:
        holdout_of_walk(HoldoutConfig(since=day(2), until=day(4)), day(since), days, START)
    assert "--forgetting-days 0" in found.value.hint


def test_every_arm_meets_both_baselines_variants_meet_the_whole_and_the_control_meets_no_tpm():
    arms = ["ecdctr", "ecdctr_no_tpm", "ecdctr_shuffled_embeddings", "finetune", "target_only"]
    found = pairs(arms)
    assert len(found) == len(set(found))
    assert {baseline for arm, baseline in found if arm == "ecdctr_shuffled_embeddings"} == {
        "target_only", "finetune", "ecdctr_no_tpm",
    }  # fmt: skip
    assert {("ecdctr", "ecdctr_no_tpm"), ("ecdctr", "ecdctr_shuffled_embeddings")} <= set(found)
    assert ("ecdctr_no_tpm", "ecdctr") not in found
    assert ("ecdctr_gate", "ecdctr") in pairs(["ecdctr", "ecdctr_gate"])
    assert pairs(["ecdctr_pool_mean", "ecdctr"]) == [("ecdctr", "ecdctr_pool_mean")]
    assert [baseline for arm, baseline in found if arm == "target_only"] == ["finetune"]
    assert pairs(["mmoe"]) == []


@pytest.fixture(scope="module")
def scored() -> Scored:
    rng = np.random.default_rng(3)
    size = 400
    rows = pd.DataFrame(
        {
            "event_id": [f"e{number:04d}" for number in range(size)],
            "event_date": [day(number // 200) for number in range(size)],
            "user_id": rng.integers(0, 50, size).astype(str),
            "label": (rng.random(size) < 0.3).astype(int),
            "cold": rng.random(size) < 0.5, "cold_ad": rng.random(size) < 0.1, "returning": np.zeros(size, bool),
        }
    )  # fmt: skip
    arms = {}
    for arm, signal in (("target_only", 0.0), ("finetune", 0.2), ("ecdctr", 0.5)):
        noise = rng.random((2, size))
        arms[arm] = np.clip(noise * 0.5 + signal * rows["label"].to_numpy() * noise, 0, 1)
    return Scored((4, 5), rows, arms)


def test_figures_are_means_over_the_seeds_of_each_part(scored):
    figures = scored.figures("ecdctr")
    label, user = scored.rows["label"].to_numpy(), scored.rows["user_id"].to_numpy()
    first, second = scored.probabilities["ecdctr"]
    assert [metrics["seed"] for metrics in figures["seeds"]] == [4, 5]
    assert figures["seeds"][1]["gauc"] == gauc(label, second, user)
    assert figures["mean"]["auc"] == pytest.approx((auc(label, first) + auc(label, second)) / 2)
    for name, metric in (("gauc_clicks", gauc_clicks), ("gauc_mean", gauc_mean)):
        expected = (metric(label, first, user) + metric(label, second, user)) / 2
        assert figures["mean"][name] == pytest.approx(expected)
    gaps = [expected_calibration_error(label, score) for score in (first, second)]
    assert figures["mean"]["expected_calibration_error"] == pytest.approx(np.mean(gaps))
    assert [metrics["date"] for metrics in figures["daily"]] == [str(day(0)), str(day(1))]
    assert figures["daily"][1]["auc"] == pytest.approx(
        (auc(label[200:], first[200:]) + auc(label[200:], second[200:])) / 2
    )
    cold = scored.rows["cold"].to_numpy()
    assert figures["cold_users"]["cold"]["rows"] == cold.sum()
    assert figures["cold_users"]["cold"]["auc"] == pytest.approx(
        (auc(label[cold], first[cold]) + auc(label[cold], second[cold])) / 2
    )
    assert set(figures["returning_users"]) == {"others"}
    assert sum(part["rows"] for part in figures["calibration"]) == 2 * len(label)


def test_a_mean_over_seeds_leaves_out_what_no_seed_could_compute():
    metrics = {"rows": 3, "clicks": 1, "auc": None, "pcoc": 1.0}
    assert mean_metrics([metrics, {**metrics, "pcoc": 2.0}]) == {"rows": 3, "clicks": 1, "auc": None, "pcoc": 1.5}


def test_differences_are_those_of_the_bootstrap_pair_by_pair(scored):
    found = differences(scored, list(scored.probabilities), seed=2, resamples=200)
    assert len(found) == 3 * len(pairs(list(scored.probabilities)))
    label, user = scored.rows["label"].to_numpy(), scored.rows["user_id"].to_numpy()
    for told in found:
        arm, baseline = scored.probabilities[told["arm"]], scored.probabilities[told["baseline"]]
        expected = paired_bootstrap(label, arm, baseline, user, metric=told["metric"], resamples=200, seed=2)
        assert {key: told[key] for key in expected} == expected
        assert np.mean(told["by_seed"]) == pytest.approx(told["difference"])
    (least,) = [d for d in found if (d["arm"], d["baseline"], d["metric"]) == ("ecdctr", "target_only", "auc")]
    assert least["low"] > 0


def entry(
    level: str, offset: int, window: int, rows: int, seconds: float, parents: tuple[str, ...] = ()
) -> LedgerEntry:
    return LedgerEntry(
        version=f"{level}-a-{day(offset)}", level=level, arm="a", date=day(offset), window_from=day(offset - window),
        window_until=day(offset), parents=parents, tables={}, config_digest="", code_version="", feature_fingerprint="",
        seed=1, ranks=1, artifact="", digest="", metrics_json=json.dumps({"rows": rows, "seconds": seconds}),
    )  # fmt: skip


@pytest.fixture
def walked():
    """Ten ad rows and a hundred natural ones a day, walked from day 10 to day 13; CPM of days 10 and 12, TPM every 5."""
    versions = {
        "tpm": [entry("tpm", 5, 5, 500, 5.0), entry("tpm", 10, 5, 500, 3.0, ("tpm-a",))],
        "cpm": [entry("cpm", 10, 4, 400, 8.0), entry("cpm", 12, 4, 400, 6.0)],
        "actr": [
            entry("actr", 10, 6, 60, 2.0, ("cpm-a",)),
            entry("actr", 11, 1, 10, 0.5, ("cpm-a", "actr-a-10")),
            entry("actr", 12, 6, 60, 2.0, ("cpm-b",)),
            entry("actr", 13, 1, 10, 0.7, ("cpm-b", "actr-a-12")),
        ],
    }
    files = {"natural_samples": 100, "ad_samples": 10}

    def pinned(table: str):
        return SimpleNamespace(files=[file(offset, 0, files[table]) for offset in range(14)])

    def clock(every: int, window: int):
        return SimpleNamespace(every=every, window=window, training=TrainingConfig())

    levels = SimpleNamespace(tpm=clock(5, 8), cpm=clock(2, 4), actr=clock(1, 6))
    joint = SimpleNamespace(training=TrainingConfig())
    return SimpleNamespace(config=SimpleNamespace(levels=levels, joint=joint, holdout=None), pinned=pinned), versions


def test_costs_by_hand(walked):
    workspace, versions = walked
    found = cost(workspace, ARMS["ecdctr"], versions, day(10), day(14))
    assert (found["updates"], found["update"]) == (2, {"rows": 10.0, "seconds": pytest.approx(0.6)})
    assert (found["replays"], found["replay"]) == (2, {"rows": 60.0, "seconds": 2.0})
    assert found["per_day"]["actr"] == {"rows": 35.0, "seconds": pytest.approx(1.3)}
    # The versions after the first: 400 rows over a clock of 2 days, 500 over 5.
    assert found["per_day"]["cpm"] == {"rows": 200.0, "seconds": 3.0}
    assert found["per_day"]["tpm"] == {"rows": 100.0, "seconds": pytest.approx(0.6)}
    assert found["retrained_daily"] == {
        "actr": {"rows": 60.0, "seconds": None}, "cpm": {"rows": 400.0, "seconds": None}, "tpm": {"rows": 800.0, "seconds": None},
    }  # fmt: skip
    assert train_seconds(versions) == pytest.approx(27.2)


def test_joint_training_anew_would_read_the_natural_window_as_well(walked):
    workspace, versions = walked
    joint = [replace(entry, tables={"ad_samples": 1, "natural_samples": 1}) for entry in versions["actr"]]
    found = cost(workspace, ARMS["ecdctr"], {"tpm": [], "cpm": [], "actr": joint}, day(10), day(14))
    assert found["retrained_daily"] == {"actr": {"rows": 60.0 + 400.0, "seconds": None}}


def test_held_out_rows_are_no_rows_of_training_anew(walked):
    workspace, versions = walked
    workspace.pinned = lambda table: SimpleNamespace(
        files=[file(offset, part, 5) for offset in range(14) for part in (0, 1)]
    )
    workspace.config.holdout = HoldoutConfig(since=day(7), until=day(10))
    found = cost(workspace, ARMS["ecdctr"], {"tpm": [], "cpm": [], "actr": versions["actr"]}, day(10), day(11))
    # Six days of ten rows, three of them without a lane of five.
    assert found["retrained_daily"]["actr"]["rows"] == 60.0 - 15.0


def test_an_arm_without_upper_levels_costs_none_of_them(walked):
    workspace, versions = walked
    found = cost(workspace, ARMS["ecdctr"], {**versions, "tpm": [], "cpm": []}, day(10), day(14))
    assert set(found["per_day"]) == set(found["retrained_daily"]) == {"actr"}


def test_an_arm_trained_on_both_tables_would_train_anew_on_both(walked):
    workspace, versions = walked
    both = [replace(each, tables={"ad_samples": 3, "natural_samples": 5}) for each in versions["actr"]]
    found = cost(workspace, ARMS["ecdctr"], {"tpm": [], "cpm": [], "actr": both}, day(10), day(14))
    # Six days of ten ads, and CPM's four days of a hundred natural rows.
    assert found["retrained_daily"] == {"actr": {"rows": 460.0, "seconds": None}}


def test_training_anew_reads_its_rows_as_often_as_its_level_has_epochs(walked):
    workspace, versions = walked
    levels = workspace.config.levels
    levels.tpm.training, levels.actr.training = TrainingConfig(epochs=2), TrainingConfig(epochs=3)
    found = cost(workspace, ARMS["ecdctr"], versions, day(10), day(14))
    assert {name: effort["rows"] for name, effort in found["retrained_daily"].items()} == {
        "actr": 3 * 60.0, "cpm": 400.0, "tpm": 2 * 800.0,
    }  # fmt: skip
    # Joint arms have epochs of their own, for the rows of both tables.
    workspace.config.joint.training = TrainingConfig(epochs=5)
    both = [replace(each, tables={"ad_samples": 3, "natural_samples": 5}) for each in versions["actr"]]
    found = cost(workspace, ARMS["mmoe"], {"tpm": [], "cpm": [], "actr": both}, day(10), day(14))
    assert found["retrained_daily"]["actr"]["rows"] == 5 * (60.0 + 400.0)


def test_with_early_stopping_rows_anew_count_the_epochs_that_versions_kept_of_the_days_they_train_on(walked):
    workspace, versions = walked
    stopping = EarlyStoppingConfig(days=2)
    workspace.config.levels.actr.training = TrainingConfig(epochs=9, early_stopping=stopping)

    def stopped(each: LedgerEntry, epoch: int | None) -> LedgerEntry:
        kept = None if epoch is None else {"best_epoch": epoch, "epochs": epoch + 1}
        return replace(each, metrics_json=json.dumps({**json.loads(each.metrics_json), "early_stopping": kept}))

    # The last version had no rows to look at, and so trained all its epochs.
    actr = [stopped(each, epoch) for each, epoch in zip(versions["actr"], (1, 2, 4, None), strict=True)]
    found = cost(workspace, ARMS["ecdctr"], {"tpm": [], "cpm": [], "actr": actr}, day(10), day(14))
    # Four of the window's six days, ten rows each; four epochs in the mean.
    assert found["retrained_daily"]["actr"]["rows"] == 40.0 * 4


def test_costs_of_seeds_are_averaged(walked):
    workspace, versions = walked
    found = cost(workspace, ARMS["ecdctr"], versions, day(10), day(14))
    slower = {**found, "update": {"rows": 10.0, "seconds": 1.2}}
    assert mean_cost([found, slower])["update"] == {"rows": 10.0, "seconds": pytest.approx(0.9)}
    assert mean_cost([found, slower])["retrained_daily"] == found["retrained_daily"]
