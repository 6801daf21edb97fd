"""The command line: exit codes and the JSON line by contract, and never a traceback for a user's mistake."""

import datetime as dt
import json
import logging
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from ecdctr import log
from ecdctr.cli import app
from ecdctr.cli.command import as_list, as_table
from ecdctr.config.simulator import WorldConfig
from ecdctr.distributed.stop_signals import stop_on_signal
from ecdctr.exceptions import AlreadyDone, InputError, NotReadyError, TemporaryError

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
SIMULATED = str(ROOT / "conf" / "datasets" / "simulated.yml")
SCORE = ("score", "--date", "2024-01-20", "--input", "ads", "--config", SIMULATED)


def call(*arguments: str):
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("run",),
        ("prepare",),
        ("train",),
        ("evaluate",),
        ("simulate",),
        ("doctor",),
        ("export",),
        ("score",),
        ("models",),
        ("tables",),
    ],
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
        (("score", "--date", "soon", "--input", "a", "--output", "b", "--config", SIMULATED), "is no day"),
        ((*SCORE, "--output", "ads/"), "is the input"),
        ((*SCORE, "--output", "ads/scores"), "lie in one another"),
        ((*SCORE, "--output", "."), "lie in one another"),
        ((*SCORE, "--output", "warehouse/simulated/ledger"), "belongs to the warehouse"),
        ((*SCORE, "--output", "scores", "--version", "v1"), "no version 'v1'"),
        ((*SCORE, "--output", "scores", "--arm", "ecdtr"), "did you mean ecdctr?"),
        (("models", "promote", "v1", "--config", SIMULATED), "no version 'v1'"),
        (("models", "rollback", "--config", SIMULATED), "no version was ever promoted"),
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
    ("arguments", "expected"),
    [
        ((), {}),
        (("--days", "9", "--seed", "2"), {"days": 9, "seed": 2}),
        (("--set", "dataset.simulator.drift=0.2", "--items", "7"), {"drift": 0.2, "items": 7}),
        (("--config", SIMULATED, "--users", "50"), {"days": 44, "users": 50, "items": 3000, "ads": 300}),
        (("--config", SIMULATED, "--set", "dataset.simulator.days=3", "--set", "spark.shuffle_partitions=9"), {"days": 3, "users": 6000, "items": 3000, "ads": 300}),
    ],
)  # fmt: skip
def test_a_simulated_world_is_that_of_the_config_and_the_options(monkeypatch, tmp_path, arguments, expected):
    asked = []
    monkeypatch.setattr("ecdctr.pipelines.simulate.spark_session", lambda settings, name: settings)
    monkeypatch.setattr(
        "ecdctr.pipelines.simulate.simulate",
        lambda *given: asked.append(given) or SimpleNamespace(model_dump=lambda mode: {}),
    )
    monkeypatch.chdir(ROOT)
    assert call("simulate", str(tmp_path), *arguments)[0] == 0
    ((spark, folder, world),) = asked
    assert folder == tmp_path
    assert world == WorldConfig(**expected)
    assert spark.shuffle_partitions == (9 if "spark.shuffle_partitions=9" in arguments else 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--days", "0"), "--days 0: "),
        (("--config", str(ROOT / "conf" / "datasets" / "kuairand.yml")), "has no dataset.simulator"),
        (("--set", "dataset.simulator.drift=2"), "dataset.simulator.drift"),
    ],
)
def test_a_world_that_cannot_be_is_refused(monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(ROOT)
    code, out, _ = call("simulate", str(tmp_path / "out"), *arguments, "--json")
    assert code == 2
    assert message in json.loads(out.strip().splitlines()[-1])["error"]["message"]
    assert not (tmp_path / "out").exists()


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "then",
    [None, RuntimeError("the gateway is gone"), InputError("cannot read the log"), TemporaryError("stopped as asked")],
)
def test_a_signal_ends_a_command_with_one_line_whatever_else_it_broke(monkeypatch, number, then):
    """A signal to the process group ends Spark's JVM as well, and calls into it fail in their own ways."""

    def works(*_):
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except KeyboardInterrupt:
            if then is None:
                raise
            raise then from None

    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setattr("ecdctr.pipelines.run.run_all", works)
    code, out, err = call("run", "--config", SIMULATED, "--json")
    assert code == 75
    assert json.loads(out)["error"]["message"] == (str(then) if isinstance(then, TemporaryError) else "interrupted")
    assert "Traceback" not in err
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_wish_to_stop_explains_what_breaks_after_it(monkeypatch):
    def works(*_):
        asked = []
        with stop_on_signal(lambda: bool(asked), lambda: asked.append(1), "stopping"):
            os.kill(os.getpid(), signal.SIGTERM)
            assert asked
            raise RuntimeError("the gateway is gone")

    monkeypatch.setattr("ecdctr.pipelines.run.run_all", works)
    assert call("run", "--config", SIMULATED)[0] == 75


def test_other_packages_warnings_are_told_but_no_echo_of_what_py4j_raises(monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log.configure()
    record = logging.LogRecord("root", logging.ERROR, "site-packages/py4j/java_gateway.py", 1, "echo", None, None)
    logging.getLogger().handle(record)
    logging.getLogger("another").warning("worth knowing")
    logging.getLogger("another").info("not worth it")
    assert [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()] == ["worth knowing"]


def test_a_result_is_one_json_line(monkeypatch):
    monkeypatch.setattr("ecdctr.pipelines.run.run_all", lambda *_: {"table": "t", "report": "r"})
    code, out, _ = call("run", "--config", SIMULATED, "--json")
    assert code == 0
    assert json.loads(out)["result"] == {"table": "t", "report": "r"}
    assert call("run", "--config", SIMULATED)[1] == "t\n"


@pytest.mark.parametrize(
    ("until", "prepared", "code"), [("2024-01-09", 8, 3), ("2024-01-08", 8, 4), ("2024-01-05", 8, 4), (None, 8, 4)]
)
def test_prepare_tells_logs_that_have_not_come_from_days_that_are_done(monkeypatch, until, prepared, code):
    done = {"days": 0, "changed": 0, "quarantined": 0, "until": dt.date(2024, 1, prepared)}
    monkeypatch.setattr("ecdctr.pipelines.prepare.prepare_tables", lambda *_: done)
    asked = () if until is None else ("--until", until)
    assert call("prepare", "--config", SIMULATED, *asked, "--json")[0] == code


def test_train_passes_on_whether_the_clock_decides(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "ecdctr.pipelines.train.train_one", lambda *_, only_due: seen.append(only_due) or {"versions": []}
    )
    for more in ((), ("--if-due",)):
        assert call("train", "cpm", "--config", SIMULATED, "--date", "2024-01-20", *more)[0] == 0
    assert seen == [False, True]


def test_names_from_data_are_no_markup_in_tables():
    text = as_table([{"column": "[bold]x[/bold] [/] :smile:", "days": "[2024-01-01, 2024-01-05)"}])
    assert "[bold]x[/bold] [/] :smile:" in text
    assert "[2024-01-01, 2024-01-05)" in text


def test_a_list_of_nothing_says_where_it_looked():
    assert as_list({"warehouse": "warehouse/shop", "versions": []}, "versions").startswith(
        "warehouse/shop has no versions; "
    )
    assert "a1" in as_list({"warehouse": "warehouse/shop", "versions": [{"version": "a1"}]}, "versions")
