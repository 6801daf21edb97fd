"""The DAG in a real Airflow: parsed, its task graph, and whole runs with stand-ins for `spark-submit` and `ecdctr`."""

import datetime as dt
import json
import os
import sys
from pathlib import Path

import pytest

DAGS = Path(__file__).parents[1]
START = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="session")
def bag():
    from airflow.models.dagbag import DagBag

    return DagBag(dag_folder=str(DAGS / "ecdctr_dag.py"), include_examples=False)


@pytest.fixture(scope="session")
def database():
    """Airflow's own tables, in SQLite; needed to run a DAG, not to parse it."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A checkout with stand-ins: `codes` are what the jobs end with, `ledger` what `ecdctr models list` prints."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (tmp_path / "codes.json").write_text("{}")
    (tmp_path / "ledger.json").write_text("[]")
    _program(
        programs / "spark-submit",
        """
        job = next(part for part in sys.argv if part.endswith(".py")).rsplit("/", 1)[1][:-3]
        asked = sys.argv[1:]
        with open(home / "asked.jsonl", "a") as file:
            file.write(json.dumps([job, asked, os.environ.get("PYSPARK_PYTHON")]) + "\\n")
        codes = json.loads((home / "codes.json").read_text())
        found = codes.get(job, 0)
        code = found.pop(0) if isinstance(found, list) else found
        (home / "codes.json").write_text(json.dumps(codes))
        if code == 0 and job.startswith("train_"):
            ledger = json.loads((home / "ledger.json").read_text())
            version = {"level": job[6:], "date": asked[asked.index("--date") + 1], "current": True}
            (home / "ledger.json").write_text(json.dumps([*ledger, version]))
        print(json.dumps({"status": "?", "command": job}))
        sys.exit(code)
        """,
        tmp_path,
    )
    _program(
        programs / "ecdctr",
        """
        ledger = json.loads((home / "ledger.json").read_text())
        if isinstance(ledger, int):
            print("what went wrong", file=sys.stderr)
            sys.exit(ledger)
        (home / "looked.json").write_text(json.dumps(sys.argv[1:]))
        print("a line before")
        print(json.dumps({"status": "ok", "result": {"versions": ledger}}))
        """,
        tmp_path,
    )
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return Site(tmp_path)


def _program(path, body, home):
    lines = "\n".join(line[8:] for line in body.strip("\n").splitlines())
    path.write_text(f"#!{sys.executable}\nimport json, os, pathlib, sys\nhome = pathlib.Path({str(home)!r})\n{lines}\n")
    path.chmod(0o755)


class Site:
    def __init__(self, home):
        self.home = home
        self.options = {"home": str(home), "config": "conf/ours.yml", "overrides": ["warehouse=/w"]}

    def ends(self, **codes):
        (self.home / "codes.json").write_text(json.dumps(codes))

    def ledger(self, versions):
        (self.home / "ledger.json").write_text(json.dumps(versions))

    @property
    def asked(self):
        path = self.home / "asked.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_file_parses_without_an_error(bag):
    assert bag.import_errors == {}
    assert sorted(bag.dags) == ["ecdctr_daily", "ecdctr_upkeep"]


def test_the_scheduler_can_keep_the_dags_as_json(bag):
    from airflow.serialization.serialized_objects import SerializedDAG

    for dag in bag.dags.values():
        kept = SerializedDAG.deserialize_dag(json.loads(json.dumps(SerializedDAG.serialize_dag(dag))))
        assert sorted(kept.task_dict) == sorted(dag.task_dict)


def test_the_task_graph(bag):
    daily = bag.dags["ecdctr_daily"]
    assert {task.task_id: sorted(task.downstream_task_ids) for task in daily.tasks} == {
        "prepare": ["train_actr", "train_cpm", "train_tpm"],
        "train_tpm": ["all_done", "tpm_in_ledger"],
        "tpm_in_ledger": ["train_cpm"],
        "train_cpm": ["all_done", "cpm_in_ledger"],
        "cpm_in_ledger": ["train_actr"],
        "train_actr": ["all_done", "evaluate"],
        "evaluate": ["all_done"],
        "all_done": [],
    }
    rules = {task.task_id: task.trigger_rule.value for task in daily.tasks}
    assert {rules[name] for name in ("tpm_in_ledger", "cpm_in_ledger")} == {"all_done"}
    assert {rules[name] for name in ("train_tpm", "train_cpm", "train_actr", "evaluate", "all_done")} == {"none_failed"}
    assert (daily.max_active_runs, daily.catchup) == (1, True)
    upkeep = bag.dags["ecdctr_upkeep"]
    assert upkeep.task_dict["compact"].downstream_task_ids == {"vacuum"}


def test_a_run_works_on_the_day_before_it_starts(bag):
    import pendulum

    timetable = bag.dags["ecdctr_daily"].timetable
    run = timetable.infer_manual_data_interval(run_after=pendulum.datetime(2024, 3, 6, 1, 30))
    assert (str(run.start.date()), str(run.end)) == ("2024-03-05", "2024-03-06 01:30:00+00:00")


def test_a_marker_of_the_logs_and_fewer_levels(site):
    from ecdctr_dag import daily_pipeline

    dag = daily_pipeline(
        "ads_only", start_date=START, levels=["actr"], logs_marker="/logs/{{ ds }}/_SUCCESS", **site.options
    )
    assert {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks} == {
        "logs_arrived": ["prepare"], "prepare": ["train_actr"], "train_actr": ["all_done", "evaluate"],
        "evaluate": ["all_done"], "all_done": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "marker", "waited_for"),
    [
        (None, "/logs/{{ ds }}/_SUCCESS", "/logs/2024-03-05/_SUCCESS"),
        ("2024-02-29", "/logs/{{ ds }}/_SUCCESS", "/logs/2024-02-29/_SUCCESS"),
        ("2024-02-29", "/logs/{{ds_nodash}}.done", "/logs/20240229.done"),
        ("2024-02-29", "/logs/{{ macros.ds_format(ds, '%Y-%m-%d', '%Y/%m') }}", "/logs/2024/02"),
        ("2024-02-29", "/logs/_SUCCESS", "/logs/_SUCCESS"),
    ],
)
def test_the_marker_is_that_of_the_day_that_all_steps_work_on(site, asked, marker, waited_for):
    import pendulum
    from airflow.sdk.execution_time import macros
    from ecdctr_dag import daily_pipeline

    dag = daily_pipeline("marked", start_date=START, logs_marker=marker, **site.options)
    # What Airflow gives a run that is started by hand on 2024-03-06: `ds` is the day of its start.
    context = {
        "params": {"date": asked}, "data_interval_start": pendulum.datetime(2024, 3, 5, 1, 30), "macros": macros,
        "ds": "2024-03-06", "ds_nodash": "20240306",
    }  # fmt: skip
    for name in ("logs_arrived", "train_tpm"):
        dag.task_dict[name].render_template_fields(context)
    assert dag.task_dict["logs_arrived"].filepath == waited_for
    arguments = dag.task_dict["train_tpm"].application_args
    assert arguments[arguments.index("--date") + 1] == (asked or "2024-03-05")


def _step(site, **more):
    from ecdctr_steps import EcdctrStep

    return EcdctrStep(task_id="t", job="prepare", arguments=["--until", "2024-03-06"], **site.options, **more)


def test_the_job_is_submitted_with_its_options(site):
    _step(site, total_executor_cores=9, packages="a:b:1", spark_conf={"spark.x": "y"}).execute({})
    [(job, asked, python)] = site.asked
    assert job == "prepare"
    at = asked.index(f"{site.home}/jobs/prepare.py")
    assert asked[at + 1 :] == [
        "--until", "2024-03-06", "--config", f"{site.home}/conf/ours.yml", "--set", "warehouse=/w", "--json",
    ]  # fmt: skip
    before = " ".join(asked[:at])
    for part in (
        "--master local[2]", "--deploy-mode client", "--total-executor-cores 9", "--packages a:b:1",
        "--conf spark.task.maxFailures=1", "--conf spark.speculation=false", "--conf spark.x=y",
        "--conf spark.dynamicAllocation.enabled=false",
    ):  # fmt: skip
        assert part in before
    assert python == f"{site.home}/.venv/bin/python"


def test_exit_codes_become_success_failure_retry_or_skip(site):
    from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException

    expected = {
        0: None, 1: AirflowException, 2: AirflowFailException, 3: AirflowException, 4: AirflowSkipException,
        75: AirflowException, 137: AirflowException,
    }  # fmt: skip
    for code, kind in expected.items():
        site.ends(prepare=code)
        try:
            _step(site).execute({})
            raised = None
        except AirflowException as error:
            raised = error
        # Exactly this class: AirflowFailException and AirflowSkipException are kinds of AirflowException.
        assert type(raised) is (kind or type(None)), code
        assert raised is None or f"exit code {code}" in str(raised)


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ([], False),
        ([{"level": "cpm", "date": "2024-03-05", "current": True}], True),
        ([{"level": "cpm", "date": "2024-03-06", "current": True}], False),
        ([{"level": "cpm", "date": "2024-02-27", "current": True}], False),
        ([{"level": "cpm", "date": "2024-03-05", "current": False}], False),
        ([{"level": "tpm", "date": "2024-03-05", "current": True}], False),
        (3, False),
        (75, False),
    ],
)
def test_the_sensor_waits_for_a_version_of_this_configuration_in_the_window(site, versions, found):
    from ecdctr_steps import LedgerSensor

    site.ledger(versions)
    sensor = LedgerSensor(task_id="t", level="cpm", since="2024-03-01", until="2024-03-05", **site.options)
    assert sensor.poke({}) is found
    if not isinstance(versions, int):
        assert json.loads((site.home / "looked.json").read_text()) == [
            "models", "list", "--config", f"{site.home}/conf/ours.yml", "--set", "warehouse=/w", "--json",
        ]  # fmt: skip


def test_a_ledger_that_cannot_be_read_is_an_error(site):
    from airflow.exceptions import AirflowException, AirflowFailException
    from ecdctr_steps import LedgerSensor

    sensor = LedgerSensor(task_id="t", level="cpm", until="2024-03-05", **site.options)
    for code, kind in ((2, AirflowFailException), (1, AirflowException)):
        site.ledger(code)
        with pytest.raises(AirflowException) as raised:
            sensor.poke({})
        assert type(raised.value) is kind


DATE = dt.datetime(2024, 3, 6, 1, 30, tzinfo=dt.UTC)
FILE = """# Files without the words dag and airflow are not looked at.
import datetime as dt
from ecdctr_dag import daily_pipeline

dag = daily_pipeline({name!r}, start_date=dt.datetime(2024, 3, 1, tzinfo=dt.UTC), tries=2, pause=dt.timedelta(0), **{options!r})
"""


def _run(site, name):
    """A whole run of the day 2024-03-05, without a scheduler; gives the states of its tasks and of itself."""
    from airflow.models.dagbag import DagBag

    file = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]) / f"{name}.py"
    file.write_text(FILE.format(name=name, options=site.options))
    try:
        found = DagBag(dag_folder=str(file), include_examples=False)
        assert found.import_errors == {}
        run = found.dags[name].test(logical_date=DATE)
    finally:
        file.unlink()
    return {task.task_id: _value(task.state) for task in run.get_task_instances()}, _value(run.state)


def _value(state):
    return getattr(state, "value", state)


STEPS = ["prepare", "train_tpm", "train_cpm", "train_actr", "evaluate"]


def test_a_first_run_goes_through_every_step_with_its_logical_date(site, database):
    states, state = _run(site, "first")
    assert state == "success"
    assert set(states.values()) == {"success"}
    assert [job for job, _, _ in site.asked] == STEPS
    dates = [[part for part in asked if part.startswith("2024") or part == "--if-due"] for _, asked, _ in site.asked]
    assert dates == [
        ["2024-03-06"], *([["2024-03-05", "--if-due"]] * 3), ["2024-03-05", "2024-03-06"],
    ]  # fmt: skip


def test_what_is_not_due_or_done_before_is_skipped_and_the_rest_goes_on(site, database):
    site.ledger([{"level": level, "date": "2024-03-02", "current": True} for level in ("tpm", "cpm")])
    site.ends(prepare=4, train_tpm=4, train_cpm=4)
    states, state = _run(site, "later")
    assert state == "success"
    assert [name for name, found in states.items() if found == "skipped"] == ["prepare", "train_tpm", "train_cpm"]
    assert states["train_actr"] == states["evaluate"] == states["all_done"] == "success"


def test_bad_input_fails_at_once_and_nothing_is_trained(site, database):
    # So that no sensor has to wait.
    site.ledger([{"level": level, "date": "2024-03-02", "current": True} for level in ("tpm", "cpm")])
    site.ends(prepare=2)
    states, state = _run(site, "bad")
    assert state == "failed"
    assert [job for job, _, _ in site.asked] == ["prepare"]
    assert states["prepare"] == "failed"
    assert {states[name] for name in (*STEPS[1:], "all_done")} == {"upstream_failed"}


def test_not_ready_and_temporary_are_tried_again(site, database):
    site.ends(prepare=[3, 3, 0], train_tpm=[75, 0])
    _, state = _run(site, "again")
    assert state == "success"
    assert [job for job, _, _ in site.asked] == ["prepare"] * 3 + ["train_tpm"] * 2 + STEPS[2:]


def test_a_failed_level_stops_none_of_the_others_but_fails_the_run(site, database):
    site.ledger([{"level": "tpm", "date": "2024-03-02", "current": True}])
    site.ends(train_tpm=2)
    states, state = _run(site, "failing")
    assert state == "failed"
    assert states["train_tpm"] == "failed"
    assert states["train_cpm"] == states["train_actr"] == states["evaluate"] == "success"
    assert states["all_done"] == "upstream_failed"
