"""A finished command prints its table again, and never the table of another one that was killed before it could say so."""

import datetime as dt
import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecdctr.config import load_config
from ecdctr.pipelines import compare as compare_module
from ecdctr.pipelines import run as run_module
from ecdctr.pipelines.finished import finished_answer, write_state
from ecdctr.report import Report
from tests.unit.test_comparison_report import example as comparison
from tests.unit.test_report_whole import example as report

pytestmark = pytest.mark.unit

SIMULATED = Path(__file__).parents[2] / "conf" / "datasets" / "simulated.yml"
WINDOW = (dt.date(2024, 2, 1), dt.date(2024, 2, 4))


class Killed(Exception):
    pass


@pytest.fixture
def config(tmp_path):
    return load_config(SIMULATED, []).model_copy(update={"runs": tmp_path})


@pytest.fixture
def killed(monkeypatch):
    """Has a call end between its files and its state."""

    def dies(*_):
        raise Killed

    def of(module, call, *arguments, **further):
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_state", dies)
            with pytest.raises(Killed):
                call(*arguments, **further)

    return of


@pytest.fixture
def evaluated(monkeypatch):
    """Stands in for the work of both commands; gives how often each was at work, and their answers one after the other."""
    made: list[int] = []
    opened = SimpleNamespace(first_day=lambda table: WINDOW[0])
    for module in (compare_module, run_module):
        monkeypatch.setattr(module, "workspace", lambda *_: nullcontext(opened))
        monkeypatch.setattr(module, "prepare_tables", lambda *_: None)
        monkeypatch.setattr(module, "walk_window", lambda *_: WINDOW)

    def compared(opened, variants, *_):
        made.append(len(variants))
        tree = comparison()
        tree["config_digest"] = f"of {len(variants)} seeds, call {len(made)}"
        return tree

    def summarized(opened, window, *_):
        made.append(0)
        return Report.model_validate(report() | {"seed": len(made)})

    monkeypatch.setattr(compare_module, "lanes_for", lambda *_: 1)
    monkeypatch.setattr(compare_module, "run_walks", lambda *_: None)
    monkeypatch.setattr(compare_module, "_evaluate", compared)
    monkeypatch.setattr(run_module, "walk", lambda *_: SimpleNamespace(seconds={}))
    monkeypatch.setattr(run_module, "evaluate", lambda *_: None)
    monkeypatch.setattr(run_module, "summarize", summarized)
    return made


def test_a_comparison_never_answers_with_the_file_of_another_that_was_killed(config, evaluated, killed):
    compare = compare_module.compare_arms
    compare(config, seeds=1)
    compare(config, seeds=1)
    assert evaluated == [1]
    killed(compare_module, compare, config, seeds=2)
    assert "of 2 seeds" in (config.run_dir / "compare.json").read_text()
    compare(config, seeds=1)
    assert evaluated == [1, 2, 1]
    assert "of 1 seeds, call 3" in (config.run_dir / "compare.json").read_text()
    compare(config, seeds=1)
    assert evaluated == [1, 2, 1]


def test_a_run_never_answers_with_the_report_of_another_that_was_killed(config, evaluated, killed):
    first = run_module.run_all(config, WINDOW[0])
    assert run_module.run_all(config, WINDOW[0]) == first
    killed(run_module, run_module.run_all, config, WINDOW[0] + dt.timedelta(days=1))
    assert json.loads((config.run_dir / "report.json").read_text())["seed"] == 2
    run_module.run_all(config, WINDOW[0])
    assert json.loads((config.run_dir / "report.json").read_text())["seed"] == 3
    run_module.run_all(config, WINDOW[0])
    assert len(evaluated) == 3


def test_a_state_speaks_of_one_file_and_one_question(tmp_path):
    state, answer, asked = tmp_path / "state.json", tmp_path / "answer", {"from": "2024-02-01", "inputs": [["log", 3]]}
    assert finished_answer(state, asked, answer) is None
    answer.write_bytes(b"42\n")
    # What sha256sum prints of it.
    digest = "084c799cd551dd1d8d5c5f9a5d593b2e931f5e36122ee5c793c1d08a19839cc0"
    write_state(state, asked, digest)
    assert finished_answer(state, asked, answer) == b"42\n"
    assert finished_answer(state, asked | {"from": "2024-02-02"}, answer) is None
    answer.write_bytes(b"43\n")
    assert finished_answer(state, asked, answer) is None
    answer.write_bytes(b"42\n")
    state.write_text("{")
    assert finished_answer(state, asked, answer) is None
