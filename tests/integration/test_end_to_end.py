"""The whole way on a small world: real Spark, Delta, Petastorm, and two Horovod ranks in processes of their own."""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from ecdctr.config import load_config
from ecdctr.exceptions import AlreadyDone, InputError, NotReadyError
from ecdctr.features.installed import kind_name
from ecdctr.features.kinds import KINDS
from ecdctr.lake.delta_log import read_snapshot
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.pipelines.clock import day_number
from ecdctr.pipelines.evaluate import stored_predictions
from ecdctr.pipelines.score import score_table
from ecdctr.pipelines.serving import promote
from ecdctr.pipelines.workspace import workspace
from ecdctr.training.published import opened as published

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
LEVELS = {
    "tpm": {"every": "4d", "window": "8d", "training": {"batch_size": 512}},
    "cpm": {"every": "3d", "window": "6d", "training": {"batch_size": 512}},
    "actr": {"window": "6d", "training": {"batch_size": 64, "checkpoint_steps": 5}},
}
# Beside the kinds of the simulated data set, so that every kind is trained on.
FURTHER = [
    {"kind": "ids", "name": "marks", "length": 3},
    {"kind": "number", "name": "price_standardised", "source": "price", "transform": "standardise", "window": "5d"},
    {"kind": "quantile", "name": "price_part", "source": "price", "buckets": 5, "window": "5d"},
    {"kind": "age", "name": "days_known", "boundaries": [2, 4]},
    {"kind": "cross", "name": "device_region", "sources": ["device", "user_region"]},
    {"kind": "rate", "name": "user_in_feed", "of": ["user_id"], "windows": ["2d", "5d"], "domains": ["natural"]},
    {"kind": "rate", "name": "item", "of": ["item_id"], "delay": "1d"},
    {
        "kind": "sequence",
        "name": "clicked_ads",
        "length": 5,
        "domains": ["ad"],
        "attributes": ["category"],
        "times": True,
    },
]


def write_config(folder: Path) -> Path:
    tree = yaml.safe_load((ROOT / "conf" / "datasets" / "simulated.yml").read_text())
    tree["dataset"]["simulator"] |= {"days": 18, "users": 500, "items": 200, "ads": 40}
    for domain in ("natural", "ads"):
        tree["dataset"][domain] = {
            "path": str(folder / "raw" / domain),
            "derive": {"marks": "concat_ws('|', category, brand)"},
        }
    tree["dataset"] |= {"negative_sampling": {"natural": 0.5}, "sample_order": "time"}
    tree["dataset"]["features"] += FURTHER
    tree |= {"vocabularies": {"user_id": {"expire_after": "3d"}}, "hooks": [{"name": "openlineage"}]}
    tree |= {"walk_days": 4, "levels": LEVELS, "warehouse": str(folder / "warehouse"), "runs": str(folder / "runs")}
    path = folder / "small.yml"
    path.write_text(yaml.safe_dump(tree))
    return path


def command(config: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "ecdctr", *arguments, "--config", str(config), "--json"]


def answer(done: "subprocess.CompletedProcess[str]") -> dict:
    assert done.stdout.strip(), done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def call(config: Path, *arguments: str, timeout: int = 400) -> tuple[int, dict]:
    done = subprocess.run(
        command(config, *arguments), capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False
    )
    return done.returncode, answer(done)


def figures(folder: Path) -> dict:
    """What a report says about models and data; times and names left out."""
    report = json.loads((folder / "runs" / "small" / "report.json").read_text())
    daily = [{key: value for key, value in day.items() if key != "model_version"} for day in report["daily"]]
    losses = {level: [v["train_log_loss"] for v in versions] for level, versions in report["levels"].items()}
    return {"daily": daily, "pooled": report["pooled"], "losses": losses}


def rows_of(folder: Path, table: str) -> int:
    return json.loads((folder / "runs" / "small" / "report.json").read_text())["tables"][table]["rows"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    code, result = call(write_config(folder), "run")
    assert code == 0, result
    return folder


def test_every_kind_of_feature_is_trained_on(finished):
    features = load_config(finished / "small.yml").dataset.features
    assert {spec.kind for spec in features} == {kind_name(kind) for kind in KINDS}
    lists = {c.name: c.length for spec in features for c in spec.columns() if c.shape == "list"}
    assert lists == {
        "clicked_items": 20,
        "marks": 3,
        "clicked_ads": 5,
        "clicked_ads_category": 5,
        "clicked_ads_times": 5,
    }
    newest = max((finished / "warehouse" / "small" / "_artifacts").glob("actr-*"))
    tables = load_file(newest / "tables.safetensors")
    for vocabulary in ("marks", "price_part", "days_known", "device_region", "clicked_ads_times"):
        rows, dim = tables[vocabulary].shape
        fresh = EmbeddingTables({vocabulary: rows}, {vocabulary: 1}, dim, seed=1).weight
        assert (tables[vocabulary] != fresh).any(1).sum() >= 2, vocabulary


def test_the_newest_ad_model_becomes_a_file_that_serves(finished):
    out = finished / "model.onnx"
    code, answered = call(finished / "small.yml", "export", str(out), "--level", "actr", "--format", "onnx")
    assert code == 0, answered
    result = answered["result"]
    assert result["version"].startswith("actr-ecdctr-")
    assert result["parity"]["rows"] > 100
    assert result["parity"]["max_difference"] <= 1e-5
    assert [node.name for node in onnxruntime.InferenceSession(str(out)).get_inputs()] == list(result["inputs"])


def test_lineage_tells_of_every_table_and_version_and_versions_of_what_had_expired(finished):
    file = finished / "warehouse" / "small" / "_lineage" / "openlineage.ndjson"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    jobs: dict[str, list[str]] = {}
    for line in lines:
        if line["eventType"] == "COMPLETE":
            jobs.setdefault(line["job"]["name"].removeprefix("small."), []).append(line["outputs"][0]["name"])
    tables = ["natural_impressions", "ad_impressions", "vocabulary", "natural_samples", "ad_samples"]
    assert set(jobs) == {
        *(f"prepare.{table}" for table in tables), "publish.tpm_embeddings", "publish.predictions",
        "train_tpm", "train_cpm", "train_actr",
    }  # fmt: skip
    assert sum(line["eventType"] == "START" for line in lines) == sum(map(len, jobs.values())) == len(lines) / 2
    told = {name.rsplit("/", 1)[1] for job, names in jobs.items() if job.startswith("train_") for name in names}
    _, listing = call(finished / "small.yml", "models", "list")
    published = {row["version"] for row in listing["result"]["versions"]}
    assert told == published
    records = {
        name: json.loads((finished / "warehouse" / "small" / "_artifacts" / name / "manifest.json").read_text())[
            "record"
        ]
        for name in published
    }
    assert any(record["expired"].get("user_id") for record in records.values())
    assert all(set(record["expired"]) <= {"user_id"} for record in records.values())


def test_the_report_follows_the_contract(finished):
    report = json.loads((finished / "runs" / "small" / "report.json").read_text())
    assert report["schema_version"] == 1
    assert report["ranks"] == 2
    assert len(report["daily"]) == 4
    assert len(report["levels"]["tpm"]) >= 3
    assert len(report["levels"]["cpm"]) >= 2
    assert {"prepare", "tpm", "cpm", "actr", "evaluate", "total"} <= set(report["seconds"])
    assert report["pooled"]["rows"] == sum(day["rows"] for day in report["daily"])
    for versions in report["levels"].values():
        assert all(v["steps"] > 0 and v["peak_rss_bytes"] > 0 for v in versions)
    page = (finished / "runs" / "small" / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_every_parent_ends_before_the_day_it_serves(finished):
    _, listing = call(finished / "small.yml", "models", "list")
    for row in listing["result"]["versions"]:
        until = row["window"].strip("[)").split(", ")[1]
        assert until <= row["date"]


def test_a_finished_run_prints_its_table_at_once(finished):
    since = time.monotonic()
    code, result = call(finished / "small.yml", "run")
    assert code == 0
    assert "ecdctr" in result["result"]["table"]
    assert time.monotonic() - since < 30


def test_one_rank_and_two_ranks_have_one_loss_curve(finished):
    curves = {}
    for ranks in ("1", "2"):
        overrides = ["--set", f"ranks={ranks}", "--set", "arms=[ecdctr_no_tpm]", "--set", "walk_days=3"]
        code, result = call(finished / "small.yml", "train", "cpm", "--date", "2024-01-15", *overrides)
        assert code == 0, result
        manifest = finished / "warehouse" / "small" / "_artifacts" / result["result"]["versions"][0] / "manifest.json"
        record = json.loads(manifest.read_text())["record"]
        curves[ranks] = record["loss_curve"]
    assert [step for step, _ in curves["1"]] == [step for step, _ in curves["2"]]
    for (_, one), (_, two) in zip(curves["1"], curves["2"], strict=True):
        assert one == pytest.approx(two, rel=2e-3)


def test_a_comparison_shares_what_a_run_has_published_and_adds_an_arm_later(finished):
    """`ecdctr` and `target_only` were run; holding rows out trains A-CTR anew, but neither TPM nor CPM."""
    config = finished / "small.yml"
    options = ("--seeds", "1", "--forgetting-days", "2")

    def versions() -> dict[str, list[str]]:
        _, listing = call(config, "models", "list")
        found: dict[str, list[str]] = {"tpm": [], "cpm": [], "actr": []}
        for row in listing["result"]["versions"]:
            found[row["level"]].append(row["version"])
        return found

    def compared(arms: str, *further: str) -> dict:
        code, result = call(config, "compare", "--arms", arms, *options, *further)
        assert code == 0, result
        return json.loads((finished / "runs" / "small" / "compare.json").read_text())

    before = versions()
    first = compared("ecdctr,target_only")
    after = versions()
    # The ledger may have got CPM versions from other tests of this module, none from the comparison.
    assert (after["tpm"], after["cpm"]) == (before["tpm"], before["cpm"])
    assert len(after["actr"]) == len(before["actr"]) + 2 * 4
    assert set(first["arms"]) == {"ecdctr", "target_only"}
    for arm in first["arms"].values():
        assert arm["mean"]["rows"] == sum(day["rows"] for day in arm["daily"])
        assert arm["mean"]["auc"] == arm["seeds"][0]["auc"]
        assert len(arm["forgetting"]["curve"]) == 4
        assert arm["forgetting"]["rows"] > 0
        assert arm["train_seconds"] > 0
    # A daily update reads its day alone, without held-out rows: they lie before the walk.
    report = json.loads((finished / "runs" / "small" / "report.json").read_text())
    assert first["arms"]["target_only"]["mean"]["rows"] == report["pooled"]["rows"]
    assert set(first["arms"]["target_only"]["cost"]["per_day"]) == {"actr"}
    assert set(first["arms"]["ecdctr"]["cost"]["per_day"]) == {"actr", "cpm", "tpm"}
    page = (finished / "runs" / "small" / "compare.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")

    # The new ones side by side, each by ranks of its own.
    arms = "ecdctr,target_only,ecdctr_bn_keep,ecdctr_bn_statistics"
    second = compared(arms, "--parallel", "2")
    grown = versions()
    added = sorted(version for version in grown["actr"] if version not in after["actr"])
    assert [version.split("-")[1] for version in added] == ["ecdctr_bn_keep"] * 4 + ["ecdctr_bn_statistics"] * 4
    assert (grown["tpm"], grown["cpm"]) == (after["tpm"], after["cpm"])
    for arm in ("ecdctr", "target_only"):
        assert second["arms"][arm] == first["arms"][arm]

    since = time.monotonic()
    assert compared(arms) == second
    assert time.monotonic() - since < 60


def assert_a_signal_ends(config: Path, name: str, number: signal.Signals, *, group: bool) -> None:
    """Start a command, send it a signal as soon as Spark has looked through the logs and goes on to write, and see how it ends."""
    log = config.parent / "log"
    with log.open("w") as told:
        process = subprocess.Popen(
            command(config, name), cwd=ROOT, stdout=subprocess.PIPE, stderr=told, text=True, start_new_session=True
        )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and "etl.prepare: check: " not in log.read_text():
        time.sleep(0.05)
    time.sleep(0.5)
    assert process.poll() is None, log.read_text()
    (os.killpg if group else os.kill)(process.pid, number)
    out, _ = process.communicate(timeout=60)
    lines = log.read_text().splitlines()
    assert process.returncode == 75, lines
    assert json.loads(out)["error"] == {
        "type": "KeyboardInterrupt", "message": "interrupted", "hint": "call again to go on",
    }  # fmt: skip
    assert sum(line.endswith(": interrupted; call again to go on") for line in lines) == 1, lines
    # Every line but the JVM's own first one is one event: no stack trace of it or of Spark.
    assert all(line.startswith("WARNING: Using incubator") or line[2:3] == line[5:6] == ":" for line in lines), lines


@pytest.fixture
def unprepared(finished, tmp_path) -> Path:
    """The same world in a warehouse of its own, with nothing prepared."""
    (tmp_path / "raw").symlink_to(finished / "raw")
    return write_config(tmp_path)


def test_a_signal_while_spark_works_ends_a_command_in_one_line(unprepared):
    assert_a_signal_ends(unprepared, "prepare", signal.SIGTERM, group=True)


@pytest.mark.campaign  # a second whole run, interrupted in each of three commands
@pytest.mark.timeout(900)
def test_an_interrupted_preparation_goes_on_in_whichever_command(finished, unprepared):
    for name, number, group in (
        ("prepare", signal.SIGINT, False), ("compare", signal.SIGTERM, False), ("run", signal.SIGINT, True),
        ("run", signal.SIGTERM, True),
    ):  # fmt: skip
        assert_a_signal_ends(unprepared, name, number, group=group)
    code, result = call(unprepared, "run")
    assert code == 0, result["error"]
    assert figures(unprepared.parent) == figures(finished)


def test_scored_tables_have_the_probabilities_of_the_walk(finished, spark, tmp_path):
    config = load_config(finished / "small.yml")
    raw = pd.read_parquet(finished / "raw" / "ads")
    given, out = tmp_path / "ads.parquet", tmp_path / "scores"
    raw.drop(columns=config.dataset.columns.label).to_parquet(given, coerce_timestamps="us", index=False)
    with workspace(config, spark=spark) as opened:
        entry = opened.ledger.versions("actr", "ecdctr")[-2]
        promote(opened, entry.version)
        with pytest.raises(AlreadyDone, match="serves already"):
            promote(opened, entry.version)
        stored = stored_predictions(opened, [entry.version], entry.date, entry.date + dt.timedelta(days=1))
        result = score_table(opened, entry.date, str(given), str(out))
        assert (result["version"], result["rows"]) == (entry.version, len(stored))
        with pytest.raises(InputError, match="it has seen"):
            score_table(opened, entry.date - dt.timedelta(days=1), str(given), str(out))
        with pytest.raises(NotReadyError, match="features of 2030-01-01 are made of all days before it"):
            score_table(opened, dt.date(2030, 1, 1), str(given), str(out))
        files = [file.path for file in opened.lake.pin("serving_embeddings").files]
        store = opened.store
    scored = pd.concat([pq.ParquetFile(file.path).read().to_pandas() for file in read_snapshot(out).files])
    both = stored.merge(scored, on="event_id", suffixes=("", "_now"))
    assert len(both) == len(stored) == len(scored) > 50
    assert (both["probability"] - both["probability_now"]).abs().max() < 1e-6
    assert both["probability"].std() > 1e-3
    assert (both["user_id"] == both["user_id_now"]).all()

    vectors = pd.concat([pq.ParquetFile(path).read().to_pandas() for path in files])
    model = published(str(store.path(entry.artifact)), str(store.root))
    for entity in ("user", "item"):
        ids = torch.arange(model.history.rows(entity))
        wanted, known = model.aggregated(entity, ids, day_number(entry.date))
        found = vectors[vectors["entity"] == entity].sort_values("id")
        assert found["id"].tolist() == [0, *ids[known].tolist()]
        assert known.sum() > 10
        torch.testing.assert_close(torch.tensor(np.stack(found["vector"])), wanted[found["id"].to_numpy()])


# Something that a run leaves behind in its warehouse, in the order in which a run comes to it: it is killed right there.
KILLED_AT = (
    "natural_impressions/_delta_log/*0.json",
    "vocabulary/_delta_log/*1.json",
    "ad_samples/_delta_log/*1.json",
    "_artifacts/tpm-*",
    "_artifacts/cpm-*",
    "_artifacts/actr-target_only-*",
    "predictions/_delta_log/*1.json",
    "ledger/_delta_log/*1.json",
)


def kill_at(config: Path, pattern: str) -> bool:
    """Start the run and kill it, with all that it has started, as soon as something matches; whether it came to that."""
    warehouse = config.parent / "warehouse" / "small"
    with (config.parent / "log").open("w") as log:
        process = subprocess.Popen(command(config, "run"), cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + 300
    try:
        while time.monotonic() < deadline and process.poll() is None and not list(warehouse.glob(pattern)):
            time.sleep(0.05)
        return process.poll() is None
    finally:
        # The driver alone, as a scheduler would: its JVM and the ranks have to notice by themselves.
        process.kill()
        process.wait(30)


@pytest.mark.campaign  # a second whole run, killed at each of its stages and resumed
@pytest.mark.timeout(1500)
def test_a_run_killed_at_every_stage_goes_on_to_the_same_figures(finished, tmp_path):
    config = write_config(tmp_path)
    for pattern in KILLED_AT:
        assert kill_at(config, pattern), f"{pattern}: {(tmp_path / 'log').read_text()[-3000:]}"
    code, result = call(config, "run")
    assert code == 0, result["error"]
    assert figures(tmp_path) == figures(finished)
    _, listing = call(config, "models", "list")
    names = [row["version"] for row in listing["result"]["versions"]]
    assert len(names) == len(set(names))
    days = [(row["level"], row["arm"], row["date"]) for row in listing["result"]["versions"]]
    assert len(days) == len(set(days))
    for table in ("natural_samples", "ad_samples", "predictions"):
        assert rows_of(tmp_path, table) == rows_of(finished, table)
