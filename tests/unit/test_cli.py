"""The command line: exit codes and the JSON line by contract, and never a traceback for a user's mistake."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecdctr.cli import app
from ecdctr.exceptions import AlreadyDone, NotReadyError, TemporaryError

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
SIMULATED = str(ROOT / "conf" / "datasets" / "simulated.yml")


def call(*arguments: str):
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [(), ("run",), ("prepare",), ("train",), ("evaluate",), ("simulate",), ("doctor",), ("models",), ("tables",)],
)
def test_help_comes_with_an_example(arguments):
    code, out, _ = call(*arguments, "--help")
    assert code == 0
    if arguments and arguments[0] not in ("models", "tables"):
        assert "ecdctr " + arguments[0] in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--config", "nowhere.yml"), "does not exist"),
        (("run", "--config", SIMULATED, "--set", "rank=2"), "did you mean ranks?"),
        (("prepare", "--config", SIMULATED, "--until", "yesterday"), "is no day"),
        (("train", "lpm", "--config", SIMULATED, "--date", "2024-01-20"), "is no level"),
    ],
)
def test_a_mistake_gives_one_message_and_exit_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*arguments, "--json")
    answer = json.loads(out.strip().splitlines()[-1])
    assert code == 2
    assert answer["status"] == "error"
    assert message in answer["error"]["message"] + str(answer["error"]["hint"])
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (NotReadyError("no"), 3, "not_ready"),
        (AlreadyDone("done"), 4, "noop"),
        (TemporaryError("later"), 75, "error"),
        (RuntimeError("bug"), 1, "error"),
        (KeyboardInterrupt(), 75, "error"),
    ],
)
def test_exit_codes_are_those_of_the_contract(monkeypatch, error, code, status):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("ecdctr.pipelines.run.run_all", fail)
    found, out, _ = call("run", "--config", SIMULATED, "--json")
    answer = json.loads(out.strip().splitlines()[-1])
    assert (found, answer["status"], answer["command"]) == (code, status, "run")


def test_a_result_is_one_json_line(monkeypatch):
    monkeypatch.setattr("ecdctr.pipelines.run.run_all", lambda *_: {"table": "t", "report": "r"})
    code, out, _ = call("run", "--config", SIMULATED, "--json")
    assert code == 0
    assert json.loads(out)["result"] == {"table": "t", "report": "r"}
    assert call("run", "--config", SIMULATED)[1] == "t\n"
