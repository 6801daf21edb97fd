"""From stored predictions to arms × seeds on the same rows, and to forgetting, on files whose every row is known."""

import datetime as dt
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecdctr.config import load_config
from ecdctr.config.schema import HoldoutConfig
from ecdctr.exceptions import IntegrityError, NotReadyError
from ecdctr.lake.delta_log import PinnedFile
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.metrics import auc, paired_bootstrap
from ecdctr.pipelines import scored as scored_module
from ecdctr.pipelines.evaluate import load_predictions
from ecdctr.pipelines.forgetting import forgetting
from ecdctr.pipelines.scored import load_scored

pytestmark = pytest.mark.unit

SIMULATED = Path(__file__).parents[2] / "conf" / "datasets" / "simulated.yml"
WALKED = [dt.date(2024, 2, 1), dt.date(2024, 2, 2), dt.date(2024, 2, 3)]
UNTIL = dt.date(2024, 2, 4)
HELD = [dt.date(2024, 1, 30), dt.date(2024, 1, 31)]
ARMS = ["ecdctr", "target_only"]
ROWS = 30


def label(day: dt.date) -> np.ndarray:
    return (np.random.default_rng(day.toordinal()).random(ROWS) < 0.4).astype(np.int32)


def probability(arm: str, seed: int, version_day: dt.date, day: dt.date) -> np.ndarray:
    return np.random.default_rng([len(arm), seed, version_day.toordinal(), day.toordinal()]).random(ROWS)


def version(arm: str, seed: int, day: dt.date) -> str:
    return f"actr-{arm}-{day}-seed{seed}"


def columns(arm: str, seed: int, version_day: dt.date, day: dt.date, order: np.ndarray) -> pa.Table:
    names = np.array([f"{day}/{row:03d}" for row in range(ROWS)])
    users = np.array([f"u{row % 7}" for row in range(ROWS)])
    return pa.table(
        {
            "event_id": names[order], "user_id": users[order], "label": pa.array(label(day)[order]),
            "probability": probability(arm, seed, version_day, day)[order],
            "model_version": [version(arm, seed, version_day)] * ROWS, "arm": [arm] * ROWS,
            "seed": pa.array([seed] * ROWS, pa.int64()),
        }
    )  # fmt: skip


class Warehouse:
    """Two arms and two seeds, each day's version with its own day and, beside it, the held-out rows of earlier ones."""

    def __init__(self, folder: Path, config) -> None:
        self.config, self.files, self.entries = config, [], []
        rng = np.random.default_rng(0)
        for seed in (1, 2):
            variant = config.model_copy(update={"seed": seed})
            for arm in ARMS:
                for day in WALKED:
                    self.entries.append(self.entry(variant, arm, day))
                    for scored_day in (day, *HELD):
                        table = columns(arm, seed, day, scored_day, rng.permutation(ROWS))
                        path = folder / f"{seed}-{arm}-{day}-{scored_day}.parquet"
                        pq.write_table(table, path)
                        self.files.append(PinnedFile(str(path), ROWS, 1, scored_day))
        self.ledger = SimpleNamespace(
            versions=lambda level=None, arm=None: [
                e for e in self.entries if level in (None, e.level) and arm in (None, e.arm)
            ]
        )
        self.lake = SimpleNamespace(exists=lambda table: True, pin=self.pin)
        self.model_digest = lambda level: self.config.model_digest(level)

    @staticmethod
    def entry(config, arm: str, day: dt.date) -> LedgerEntry:
        return LedgerEntry(
            version=version(arm, config.seed, day), level="actr", arm=arm, date=day, window_from=day, window_until=day,
            parents=(), tables={}, config_digest=config.model_digest(), code_version="", feature_fingerprint="",
            seed=config.seed, ranks=1, artifact="", digest="",
        )  # fmt: skip

    def pin(self, name: str, since: dt.date, until: dt.date):
        return SimpleNamespace(files=[file for file in self.files if since <= file.event_date < until])

    @contextmanager
    def using(self, config):
        before, self.config = self.config, config
        yield self
        self.config = before

    def flip(self, name: str, rows: int) -> None:
        """Turn the labels of some rows of a file, as a day that was still open does between two walks."""
        file = next(f for f in self.files if Path(f.path).stem == name)
        table = pq.ParquetFile(file.path).read()
        labels = table["label"].to_numpy().copy()
        labels[:rows] = 1 - labels[:rows]
        pq.write_table(table.set_column(table.column_names.index("label"), "label", pa.array(labels)), file.path)


@pytest.fixture(scope="module")
def config():
    holdout = HoldoutConfig(since=HELD[0], until=WALKED[0])
    return load_config(SIMULATED, ["arms=[ecdctr, target_only]"]).model_copy(update={"holdout": holdout})


@pytest.fixture
def warehouse(tmp_path, config) -> Warehouse:
    return Warehouse(tmp_path, config)


@pytest.fixture
def variants(config):
    return {seed: config.model_copy(update={"seed": seed}) for seed in (1, 2)}


def no_segments(workspace, since, until) -> pd.DataFrame:
    names = [f"{day}/{row:03d}" for day in WALKED for row in range(ROWS)]
    return pd.DataFrame({"cold": False, "cold_ad": True, "returning": False}, index=pd.Index(names, name="event_id"))


def test_a_day_is_told_by_the_version_of_that_day_alone(warehouse):
    found = load_predictions(warehouse, ["ecdctr"], HELD[0], UNTIL)
    # The window reaches over the held-out days, whose scores belong to no walked day.
    assert len(found) == 3 * ROWS
    assert sorted(set(found["model_version"])) == [version("ecdctr", 1, day) for day in WALKED]
    for day in WALKED:
        own = found[found["event_date"] == day]
        np.testing.assert_array_equal(own["probability"], probability("ecdctr", 1, day, day))
        np.testing.assert_array_equal(own["label"], label(day))
    with pytest.raises(NotReadyError, match="finetune"):
        load_predictions(warehouse, ["finetune"], WALKED[0], UNTIL)


def test_arms_and_seeds_are_laid_on_the_same_rows(warehouse, variants, monkeypatch):
    monkeypatch.setattr(scored_module, "segments", no_segments)
    found = load_scored(warehouse, variants, WALKED[0], UNTIL)
    assert found.seeds == (1, 2)
    assert found.rows["cold_ad"].all()
    for arm in ARMS:
        expected = [np.concatenate([probability(arm, seed, day, day) for day in WALKED]) for seed in (1, 2)]
        np.testing.assert_array_equal(found.probabilities[arm], expected)
    np.testing.assert_array_equal(found.rows["label"], np.concatenate([label(day) for day in WALKED]))


def test_scored_rows_that_have_left_the_log_are_in_no_figure(warehouse, variants, monkeypatch, caplog):
    gone = [f"{WALKED[0]}/000", f"{WALKED[2]}/007"]
    monkeypatch.setattr(scored_module, "segments", lambda *window: no_segments(*window).drop(gone))
    found = load_scored(warehouse, variants, WALKED[0], UNTIL)
    kept = np.ones(3 * ROWS, bool)
    kept[[0, 2 * ROWS + 7]] = False
    assert "2 scored rows that ad_impressions no longer has are left out" in caplog.text
    assert not set(found.rows["event_id"]) & set(gone)
    np.testing.assert_array_equal(found.rows["label"], np.concatenate([label(day) for day in WALKED])[kept])
    for arm in ARMS:
        expected = [np.concatenate([probability(arm, seed, day, day) for day in WALKED])[kept] for seed in (1, 2)]
        np.testing.assert_array_equal(found.probabilities[arm], expected)
    figures = found.figures("ecdctr")
    assert list(figures["cold_users"]) == ["warm"]
    assert figures["mean"]["rows"] == sum(day["rows"] for day in figures["daily"]) == 3 * ROWS - 2
    monkeypatch.setattr(scored_module, "segments", lambda *window: no_segments(*window).iloc[:0])
    with pytest.raises(NotReadyError, match="ad_impressions has none of the 90 scored rows"):
        load_scored(warehouse, variants, WALKED[0], UNTIL)


def test_arms_that_have_scored_other_rows_are_not_compared(warehouse, variants, monkeypatch):
    monkeypatch.setattr(scored_module, "segments", no_segments)
    file = next(f for f in warehouse.files if "2-target_only-2024-02-02-2024-02-02" in f.path)
    table = pq.ParquetFile(file.path).read()
    pq.write_table(table.slice(1), file.path)
    with pytest.raises(IntegrityError, match="target_only of seed 2 has scored 89 rows, other arms 90"):
        load_scored(warehouse, variants, WALKED[0], UNTIL)
    # A row that has left the log before one arm was walked, and after the others were, is nobody's.
    gone = table["event_id"][0].as_py()
    monkeypatch.setattr(scored_module, "segments", lambda *window: no_segments(*window).drop(gone))
    assert len(load_scored(warehouse, variants, WALKED[0], UNTIL).rows) == 3 * ROWS - 1


def test_arms_that_were_given_other_labels_are_not_compared(warehouse, variants, monkeypatch):
    monkeypatch.setattr(scored_module, "segments", no_segments)
    warehouse.flip("2-target_only-2024-02-02-2024-02-02", rows=2)
    told = "target_only of seed 2 and other arms were given different labels in 2 of 90 rows, first on 2024-02-02: by actr-"
    with pytest.raises(IntegrityError, match=told) as found:
        load_scored(warehouse, variants, WALKED[0], UNTIL)
    assert "walk all arms anew" in found.value.hint
    tables = {version("ecdctr", 1, WALKED[1]): 3, version("target_only", 2, WALKED[1]): 5}
    warehouse.entries = [replace(e, tables={"ad_samples": tables.get(e.version, 4)}) for e in warehouse.entries]
    told = "actr-ecdctr-2024-02-02-seed1 is older, trained on version 3 of ad_samples, actr-target_only-2024-02-02-seed2 on version 5"
    with pytest.raises(IntegrityError, match=told):
        load_scored(warehouse, variants, WALKED[0], UNTIL)


def test_versions_that_were_given_other_held_out_rows_or_labels_measure_no_forgetting(warehouse, variants):
    warehouse.flip("2-ecdctr-2024-02-03-2024-01-30", rows=1)
    told = "actr-ecdctr-2024-02-03-seed2 and other versions were given different labels in 1 of 60 held-out rows, first on 2024-01-30"
    with pytest.raises(IntegrityError, match=told):
        forgetting(warehouse, variants, "ecdctr", WALKED[0], UNTIL)
    file = next(f for f in warehouse.files if "1-ecdctr-2024-02-02-2024-01-31" in f.path)
    pq.write_table(pq.ParquetFile(file.path).read().slice(1), file.path)
    told = "actr-ecdctr-2024-02-02-seed1 has scored 59 held-out rows, other versions 60 held-out rows, not all the same"
    with pytest.raises(IntegrityError, match=told):
        forgetting(warehouse, variants, "ecdctr", WALKED[0], UNTIL)


def test_forgetting_is_the_last_version_less_the_first_on_the_same_held_out_rows(warehouse, variants):
    found = forgetting(warehouse, variants, "ecdctr", WALKED[0], UNTIL)
    labels = np.concatenate([label(day) for day in HELD])
    users = np.array([f"u{row % 7}" for _ in HELD for row in range(ROWS)])

    def scores(version_day: dt.date) -> np.ndarray:
        return np.array([[*probability("ecdctr", s, version_day, HELD[0]), *probability("ecdctr", s, version_day, HELD[1])] for s in (1, 2)])  # fmt: skip

    curve = [np.mean([auc(labels, row) for row in scores(day)]) for day in WALKED]
    assert [point["auc"] for point in found["curve"]] == pytest.approx(curve)
    assert found["backward_transfer"] == pytest.approx(curve[-1] - curve[0])
    expected = paired_bootstrap(labels, scores(WALKED[-1]), scores(WALKED[0]), users, metric="auc", seed=1)
    assert (found["low"], found["high"]) == pytest.approx((expected["low"], expected["high"]))
    assert (found["rows"], found["clicks"]) == (2 * ROWS, labels.sum())
    assert found["window"] == (HELD[0], WALKED[0])


def test_forgetting_without_a_holdout_is_not_measured(warehouse, variants):
    plain = {seed: variant.model_copy(update={"holdout": None}) for seed, variant in variants.items()}
    assert forgetting(warehouse, plain, "ecdctr", WALKED[0], UNTIL) == {}
