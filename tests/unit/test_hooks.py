"""Hooks: found by name, isolated, and the shipped ones against a real server and real files."""

import datetime as dt
import hashlib
import hmac
import json
import logging
import threading
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import EntryPoint

import pytest

from ecdctr.config.operations import HookConfig
from ecdctr.exceptions import ConfigError
from ecdctr.hooks import FailureEvent, Hook, HookError, Hooks, PublishEvent, QualityEvent, QuarantineEvent, TableEvent
from ecdctr.hooks import runner as hook_runner

pytestmark = pytest.mark.unit

DAY = dt.date(2024, 1, 5)
TABLE = {
    "job": "prepare", "table": "ad_samples", "version": 3, "rows": 42, "inputs": ("ad_impressions",),
    "since": DAY, "until": DAY + dt.timedelta(days=1),
}  # fmt: skip
PUBLISH = {
    "version": "actr-1",
    "level": "actr",
    "arm": "ecdctr",
    "date": DAY,
    "parents": ("cpm-1",),
    "tables": {"ad_samples": 3},
}


def configured(name, on_error=None, **options):
    return HookConfig(name=name, on_error=on_error, options=options)


class Recorder(Hook):
    def __init__(self, **options):
        self.options, self.seen = options, []

    def after_table_commit(self, event):
        self.seen.append(event)


class Broken(Hook):
    def after_table_commit(self, event):
        raise RuntimeError("no luck")

    on_failure = after_table_commit


def install(monkeypatch, **hooks):
    class Point(EntryPoint):
        def load(self):
            return hooks[self.name]

    points = [Point(name, "x", hook_runner.GROUP) for name in hooks]
    monkeypatch.setattr(hook_runner, "entry_points", lambda group: points if group == hook_runner.GROUP else [])


def test_a_hook_is_found_by_its_entry_point_and_gets_its_options(monkeypatch, tmp_path):
    made = []
    install(monkeypatch, mine=lambda **options: made.append(Recorder(**options)) or made[-1], other=dict)
    hooks = Hooks([configured("mine", folder="{warehouse}/x", times=3)], name="n", warehouse=tmp_path)
    hooks.fire(TableEvent, **TABLE)
    assert made[0].options == {"folder": f"{tmp_path}/x", "times": 3}
    assert made[0].seen[0].tree() | {"run_id": ""} == {
        "event": "table", "name": "n", "warehouse": str(tmp_path), "run_id": "", "job": "prepare", "table": "ad_samples",
        "version": 3, "rows": 42, "inputs": ["ad_impressions"], "since": "2024-01-05", "until": "2024-01-06",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"makes a dict, not an ecdctr\.hooks\.Hook"):
        Hooks([configured("other")])
    install(monkeypatch, webhook=Recorder)
    with pytest.raises(ConfigError, match="a shipped one's name"):
        Hooks([configured("webhook", url="http://x")])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("webhok", {}, "did you mean 'webhook'"),
        ("os.system", {}, "no hook 'os.system'"),
        ("success_marker", {"foldr": "x"}, "hooks.0.options.foldr"),
        ("webhook", {"url": "file:///etc/passwd"}, "must begin with http"),
        ("webhook", {"url": "http://me:pass@host/"}, "no user or password"),
        ("webhook", {"url": "http://host/", "secret_env": "ECDCTR_NOT_SET"}, "ECDCTR_NOT_SET is not set"),
    ],
)
def test_what_cannot_be_made_is_named(name, options, words):
    with pytest.raises(ConfigError) as caught:
        Hooks([configured(name, **options)])
    assert words in str(caught.value)


def test_a_failing_hook_is_reported_and_fails_its_step_only_where_configured_so(monkeypatch, caplog):
    recorder = Recorder()
    install(monkeypatch, broken=Broken)
    with caplog.at_level(logging.WARNING):
        Hooks([configured("broken")], [recorder]).fire(TableEvent, **TABLE)
    assert "hook 'broken' failed at after_table_commit: RuntimeError: no luck" in caplog.text
    assert len(recorder.seen) == 1
    strict = Hooks([configured("broken", "fail")], [recorder])
    with pytest.raises(HookError, match="no luck"):
        strict.fire(TableEvent, **TABLE)
    assert len(recorder.seen) == 1
    strict.fire(FailureEvent, error="X", message="m")


def test_a_hook_that_ends_the_process_or_alters_its_event_does_neither(caplog):
    tables, recorder = dict(PUBLISH["tables"]), []

    class Harm(Hook):
        def after_publish(self, event):
            event.tables.clear()
            raise SystemExit(3)

    class Next(Hook):
        def after_publish(self, event):
            recorder.append(dict(event.tables))

    with caplog.at_level(logging.WARNING):
        Hooks(given=[Harm(), Next()]).fire(PublishEvent, **PUBLISH | {"tables": tables})
    assert "hook 'Harm' failed at after_publish: SystemExit: 3" in caplog.text
    assert recorder == [tables] == [PUBLISH["tables"]]


def test_the_marker_appears_when_the_last_table_is_written(tmp_path):
    hooks = Hooks([configured("success_marker", folder=str(tmp_path / "marks"))], name="n", warehouse=tmp_path)
    hooks.fire(TableEvent, **TABLE | {"table": "natural_samples"})
    assert not (tmp_path / "marks").exists()
    hooks.fire(TableEvent, **TABLE)
    hooks.fire(PublishEvent, **PUBLISH)
    assert sorted(file.name for file in (tmp_path / "marks").iterdir()) == [
        "actr-1.success", "ad_samples-2024-01-06.success",
    ]  # fmt: skip
    assert json.loads((tmp_path / "marks" / "actr-1.success").read_text())["tables"] == {"ad_samples": 3}


def test_lineage_says_which_version_came_from_what(tmp_path):
    hooks = Hooks([configured("openlineage")], name="n", warehouse=tmp_path)
    hooks.fire(TableEvent, **TABLE)
    hooks.fire(PublishEvent, **PUBLISH)
    hooks.fire(FailureEvent, error="InputError", message="bad rows")
    lines = [json.loads(line) for line in (tmp_path / "_lineage" / "openlineage.ndjson").read_text().splitlines()]
    required = {"eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"}
    assert all(set(line) == required for line in lines)
    # The form asks for one START and one end per run, and a run has one job.
    assert [line["eventType"] for line in lines] == ["START", "COMPLETE", "START", "COMPLETE", "START", "FAIL"]
    assert [line["job"]["name"] for line in lines[::2]] == ["n.prepare.ad_samples", "n.train_actr", "n.command"]
    assert [line["run"]["runId"] for line in lines[::2]] == [line["run"]["runId"] for line in lines[1::2]]
    moments = [dt.datetime.fromisoformat(line["eventTime"]) for line in lines]
    assert moments == sorted(moments)
    assert moments[0].utcoffset() == dt.timedelta(0)
    runs = [uuid.UUID(line["run"]["runId"]) for line in lines[::2]]
    assert len(set(runs)) == 3
    for line in lines[:4]:
        parent = line["run"]["facets"]["parent"]
        assert parent["run"]["runId"] == str(runs[2])
        assert parent["job"] == {"namespace": "ecdctr", "name": "n.command"}
    table, model, failed = lines[1::2]
    (output,) = table["outputs"]
    assert output["name"] == str(tmp_path / "ad_samples")
    assert output["facets"]["version"]["datasetVersion"] == "3"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 42
    assert [each["name"] for each in model["inputs"]] == [str(tmp_path / "ad_samples"), str(tmp_path / "models/cpm-1")]
    assert failed["run"]["facets"]["errorMessage"]["message"] == "bad rows"
    for facet in (output["facets"]["version"], output["outputFacets"]["outputStatistics"], parent):
        assert facet["_schemaURL"].startswith("https://openlineage.io/spec/facets/1-0-")
        assert facet["_producer"] == table["producer"]


def test_the_gate_closes_when_more_is_out_of_bounds_than_allowed():
    outcome = {"domain": "ad", "event_date": DAY, "check": "volume", "subject": "", "value": 3.0, "expected": 100.0}
    bad = ({**outcome, "outcome": "warn"}, {**outcome, "outcome": "ok"})
    with pytest.raises(HookError, match=r"ad 2024-01-05 volume : 3, expected 100"):
        Hooks([configured("quality_gate")]).fire(QualityEvent, outcomes=bad)
    Hooks([configured("quality_gate", allowed=1)]).fire(QualityEvent, outcomes=bad)
    Hooks([configured("quality_gate", "report")]).fire(QualityEvent, outcomes=bad)


@pytest.fixture
def server():
    """A server that answers as told, then 200; `asked` has the requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.asked.append((dict(self.headers), body))
            self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    found = HTTPServer(("127.0.0.1", 0), Handler)
    found.asked, found.answers = [], []
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def test_the_webhook_signs_and_tries_again(server, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("HOOK_SECRET", "s3cret-word")
    url = f"http://127.0.0.1:{server.server_port}/in?token=hidden"
    entry = configured("webhook", url=url, secret_env="HOOK_SECRET", retries=2, pause_seconds=0.01)
    server.answers = [503, 429]
    with caplog.at_level(logging.DEBUG):
        Hooks([entry], name="n", warehouse=tmp_path).fire(QuarantineEvent, rows=3, reasons={"late": 3})
    assert len(server.asked) == 3
    assert len({headers["X-Ecdctr-Delivery"] for headers, _ in server.asked}) == 1
    headers, body = server.asked[-1]
    assert json.loads(body)["reasons"] == {"late": 3}
    expected = hmac.new(b"s3cret-word", body, hashlib.sha256).hexdigest()
    assert headers["X-Ecdctr-Signature"] == f"sha256={expected}"
    for answers, tries in (([503] * 9, 3), ([403], 1), ([302], 1)):
        server.asked.clear()
        server.answers = list(answers)
        with caplog.at_level(logging.DEBUG), pytest.raises(HookError, match=f"127.0.0.1: answer {answers[0]}"):
            Hooks([entry.model_copy(update={"on_error": "fail"})]).fire(PublishEvent, **PUBLISH)
        assert len(server.asked) == tries
    assert "s3cret" not in caplog.text
    assert "hidden" not in caplog.text
