"""The peers' click log as a task of the trainer: it is built from a folder as the benchmark's generator writes it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import runner
from benchmarks.clickbench import ClickBench
from benchmarks.more_ranks import HELD, MOVED
from benchmarks.more_ranks_page import more_ranks
from benchmarks.peer_runs import ALONE, ONE_CORE, OURS
from benchmarks.performance_page import memory
from ecdctr.distributed.single import SingleProcess
from ecdctr.distributed.tasks import Signals
from ecdctr.training.level import train_level
from ecdctr.training.task import LevelTask

ROWS, IDS, HISTORY = 600, ["user", "item", "place"], 5
SIZES = {"user": 50, "item": 40, "place": 10}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(3)
    for part in ("train", "test"):
        columns = {name: rng.integers(1, SIZES[name], ROWS) for name in IDS}
        lists = rng.integers(0, SIZES["item"], (ROWS, HISTORY))
        table = pa.table(
            {
                "label": rng.integers(0, 2, ROWS).astype(np.float32),
                **columns,
                "number": rng.random(ROWS, dtype=np.float32),
                "clicked": pa.array(list(lists), pa.list_(pa.int64())),
            }
        )
        (tmp_path / part).mkdir()
        pq.write_table(table, tmp_path / part / "part-0.parquet", row_group_size=200)
    meta = {"cat": IDS, "num": ["number"], "hist": "clicked", "hist_len": HISTORY, "hist_of": "item", "sizes": SIZES}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    return tmp_path


@pytest.mark.parametrize("model", ["deepfm", "din"])
def test_the_task_trains_and_its_version_is_scored(folder, model):
    data = ClickBench(folder)
    task = data.task(model, work=folder / "work", batch_size=100, seed=1, ranks=1, training={})
    told = LevelTask.model_validate(json.loads(json.dumps(task.model_dump(mode="json"))))
    record = train_level(SingleProcess(), told, Signals())
    assert (record["steps"], record["rows"]) == (6, ROWS)
    scored = runner._evaluate(data, task.folder, model, threads=1)
    assert 0.4 < scored["auc"] < 0.6
    assert scored["logloss"] < 0.75


def test_more_ranks_are_compared_within_a_repetition_and_beside_what_the_machine_allows():
    def run(peer, rep, rate, other=0.0):
        kept = {"peer": peer, "rep": rep, "steady_sps": rate, "other_cpu_s": other, "model": "din"}
        return kept | {"rows": 10, "vocab": 100, "e2e_s": 9.0, "wall_s": 9.0}

    runs = [run(OURS, 0, 150.0), run(ALONE, 0, 100.0), run(OURS, 1, 180.0), run(ALONE, 1, 100.0, other=9.0)]
    limits = [
        {"model": "din", "rows_per_step": 4096, "alone_ms": 32.0, "together_ms": 35.0, "ceiling": 1.8},
        {
            "model": "din",
            "rows_per_step": 2048,
            "alone_ms": 17.0,
            "together_ms": 20.0,
            "ceiling": 1.7,
            "in_step_ms": 25.0,
            "in_step": 1.36,
        },
    ]
    text = more_ranks([*runs, run(ONE_CORE, 1, 100.0)], 2, limits, [])
    assert "| din | 100 | 100 | 1.50 | 1.80 | 1.60 | 1.28 |" in text
    assert "| 1.50 | - | - | - |" in more_ranks(runs, 2, [], [])
    assert more_ranks(runs[:1], 2, [], []) == ""


def test_ranks_with_equal_rows_are_compared_within_a_repetition_and_their_steps_put_side_by_side():
    def step(ranks, rows, rep, rate, forward, options=()):
        kept = {"model": "din", "ids": 100, "ranks": ranks, "rows": rows, "rep": rep, "samples_per_second": rate}
        kept["options"] = list(options)
        return kept | {"step_ms": {"forward": forward, "exchange": 0.5 * (ranks - 1)}}

    steps = [
        step(1, 2048, 0, 100, 4.0),
        step(2, 2048, 0, 170, 5.0),
        step(1, 2048, 1, 110, 6.0),
        step(1, 4096, 0, 120, 9.0),
        step(1, 2048, 0, 85, 8.0, HELD),
        step(2, 2048, 0, 153, 7.0, MOVED),
    ]
    text = more_ranks([], 2, [{"model": "din", "rows_per_step": 2048, "ceiling": 1.9, "in_step": 1.84}], steps)
    assert "| din | 100 | 2,048 | 105 (100–110) | 1.70 | 2.00 | 1.80 | 1.90 | 1.84 |" in text
    assert "| model | ids | ranks x rows | forward | exchange | all |" in text
    for line in ("1 x 4,096 | 9.0 | 0.0 | 9.0", "1 x 2,048 | 5.0 | 0.0 | 5.0", "2 x 2,048 | 5.0 | 0.5 | 5.5"):
        assert f"| din | 100 | {line} |" in text


def test_memory_is_held_to_the_leanest_peer_and_the_fixed_cost():
    def run(peer, vocab, rss, pss):
        kept = {"peer": peer, "rep": 0, "other_cpu_s": 0.0, "model": "din", "rows": 10, "vocab": vocab}
        return kept | {"e2e_s": 9.0, "wall_s": 9.0, "peak_rss_mb": rss, "peak_pss_mb": pss}

    runs = [run(OURS, 100, 600, 500), run("lean", 100, 200, 200), run("fat", 100, 900, 900)]
    runs += [run(OURS, 1000, 880, 700), run("lean", 1000, 400, 400), run("fat", 1000, 5000, 5000)]
    text = memory([*runs, run(ALONE, 1000, 1, 1)], 2)
    assert "| din | resident sets added up | 880 | lean: 400 | 400 | 1.10 |" in text
    assert "| din | shared pages counted once | 700 | lean: 400 | 300 | 1.00 |" in text
    assert memory(runs[:3], 2) == ""
