"""Which cores there are, and which of them a rank keeps to."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecdctr import cores
from ecdctr.config import load_config
from ecdctr.distributed import placement
from ecdctr.distributed.placement import bind, own_cores
from ecdctr.pipelines.workspace import Workspace

pytestmark = pytest.mark.unit

SIMULATED = Path(__file__).parents[2] / "conf" / "datasets" / "simulated.yml"


@pytest.fixture
def eight_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {9, 2, 3, 4, 5, 6, 7, 8})
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(cores, "OLD_QUOTA", (tmp_path / "quota", tmp_path / "period"))
    return tmp_path


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu.max": "nonsense\n"}, 8),
        ({"quota": "-1\n", "period": "100000\n"}, 8),
        ({"quota": "200000\n", "period": "100000\n"}, 2),
    ],
)
def test_cores_are_those_allowed_and_no_more_than_the_quota_keeps_busy(eight_cores, files, found):
    for name, text in files.items():
        (eight_cores / name).write_text(text)
    assert cores.allowed() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert cores.count() == found


def test_ranks_that_fill_a_machine_share_no_core():
    parts = [own_cores(range(8), place, 4, 2) for place in range(4)]
    assert [list(part) for part in parts] == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize(("ranks", "threads"), [(1, 8), (2, 1), (4, 4), (3, 2)])
def test_other_ranks_may_run_everywhere(ranks, threads):
    assert list(own_cores(range(8), ranks - 1, ranks, threads)) == list(range(8))


@pytest.mark.parametrize(("quota", "kept_to"), [("max 100000", [6, 7, 8, 9]), ("400000 100000", None)])
def test_ranks_that_a_quota_slows_are_not_kept_to_cores(eight_cores, monkeypatch, quota, kept_to):
    (eight_cores / "cpu.max").write_text(quota)
    asked = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, found: asked.append(list(found)))
    bind(1, 2, 4)
    assert asked == ([] if kept_to is None else [kept_to])


def test_a_system_that_forbids_it_is_no_error(eight_cores, monkeypatch, caplog):
    def forbidden(process, found):
        raise PermissionError("not here")

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    with caplog.at_level("INFO", placement.__name__):
        bind(0, 2, 4)
    assert "not here" in caplog.text


def cluster(options):
    conf = SimpleNamespace(get=lambda name, default: options.get(name, default))
    return SimpleNamespace(sparkContext=SimpleNamespace(master="spark://head:7077", getConf=lambda: conf))


@pytest.mark.parametrize(
    ("overrides", "spark", "threads"),
    [
        (["ranks=2"], None, 4),
        (["ranks=3"], None, 2),
        (["ranks=16", "lanes=16"], None, 1),
        (["ranks=2", "threads_per_rank=3"], None, 3),
        (["ranks=2"], cluster({}), 1),
        (["ranks=2"], cluster({"spark.task.cpus": "6"}), 6),
        (["ranks=2", "threads_per_rank=3"], cluster({"spark.task.cpus": "6"}), 3),
    ],
)
def test_threads_of_a_rank(eight_cores, monkeypatch, overrides, spark, threads):
    monkeypatch.setattr("ecdctr.pipelines.workspace.with_delta", lambda session: session)
    config = load_config(SIMULATED, [*overrides, "spark.master=local[4]"])
    assert Workspace(config, spark).threads_of_rank == threads
