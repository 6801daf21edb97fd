"""Doctor: what it finds wrong, what it says to do, and that it ends."""

import os
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from bootstrap import cache
from ecdctr.config.schema import SparkConfig
from ecdctr.doctor import Check, diagnose, examine, surroundings
from ecdctr.doctor.engines import try_engines
from ecdctr.doctor.trial import STAGES
from ecdctr.exceptions import NotReadyError
from ecdctr.lake import jars

pytestmark = pytest.mark.unit
TRIAL = """
import json, subprocess, sys, time
report = open(sys.argv[1], "w")
print("starting", flush=True)
report.write(json.dumps({"name": "horovod", "ok": True, "detail": "there", "hint": None}) + "\\n")
report.flush()
"""


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """A trial that reports its first stage and then does what it is told."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def write(then: str) -> str:
        (tmp_path / "some_trial.py").write_text(TRIAL + then)
        return "some_trial"

    return write


def test_a_trial_that_dies_names_the_stage_and_its_last_words(trial):
    first, second = try_engines(trial=trial("print('no memory', file=sys.stderr); sys.exit(7)"))
    assert first == Check("horovod", True, "there")
    assert (second.name, second.ok) == (STAGES[1], False)
    assert second.detail == "ended with 7; it said last: no memory"


def test_a_trial_that_hangs_is_ended_with_its_children(trial, tmp_path):
    hang = f"child = subprocess.Popen(['sleep', '600']); open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
    started = time.monotonic()
    checks = try_engines(limit=5, trial=trial(hang + "time.sleep(600)"))
    assert time.monotonic() - started < 60
    assert "did not end within 5 s" in checks[-1].detail
    child = int((tmp_path / "pid").read_text())
    # Killed already, but on a busy machine it takes a moment to be gone.
    while time.monotonic() - started < 60 and not ended(child):
        time.sleep(0.05)
    assert ended(child)


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def healthy(tmp_path, monkeypatch):
    """A machine on which all looks well; gives the list of the trials that were run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("machine", "python", "java", "versions", "jars"):
        monkeypatch.setattr(surroundings, name, lambda name=name, **_: Check(name, True, "fine"))
    trials: list[list[Check]] = []

    def trial() -> list[Check]:
        trials.append([Check("engine", len(trials) > 0, "tried")])
        return trials[-1]

    monkeypatch.setattr(examine, "try_engines", trial)
    return trials


def test_a_quick_look_tries_the_engines_until_they_have_passed_once(healthy, monkeypatch):
    assert not diagnose(full=False)[-1].ok
    assert diagnose(full=False)[-1].ok
    assert diagnose(full=False)[-1].name == "engines"
    assert len(healthy) == 2
    diagnose(full=True)
    assert len(healthy) == 3
    monkeypatch.setattr(surroundings, "java", lambda: Check("java", True, "another"))
    diagnose(full=False)
    assert len(healthy) == 4


def test_engines_are_not_tried_on_a_machine_that_lacks_something(healthy, monkeypatch):
    monkeypatch.setattr(surroundings, "java", lambda: Check("java", False, "none", "install it"))
    assert [check.name for check in diagnose(full=True) if not check.ok] == ["java"]
    assert healthy == []


def test_a_small_machine_is_advised_and_a_tiny_one_refused(monkeypatch):
    monkeypatch.setattr(surroundings, "_memory", lambda: 6 * surroundings.GIB)
    advised = surroundings.machine()
    assert advised.ok
    assert "8 GiB" in (advised.hint or "")
    monkeypatch.setattr(surroundings, "_memory", lambda: surroundings.GIB)
    assert not surroundings.machine().ok


def test_a_full_disk_is_refused(monkeypatch):
    usage = namedtuple("usage", "total used free")(10**12, 10**12, 10**6)
    monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda _: usage)
    assert not surroundings.machine().ok


@pytest.mark.parametrize(("version", "ok"), [("17.0.15", True), ("1.8.0_392", False), ("21.0.1", False)])
def test_only_jdk_17_will_do(tmp_path, monkeypatch, version, ok):
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    check = surroundings.java()
    assert check.ok is ok
    assert version in check.detail
    assert ok or "openjdk-17-jdk-headless" in (check.hint or "")


def test_no_jdk_at_all_is_said(monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    assert "/nowhere/bin/java does not start" in surroundings.java().detail


def test_versions_off_their_pins_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(surroundings, "requires", lambda _: ["psutil==0.1", "no-such-package", 'x ; extra == "dev"'])
    monkeypatch.setattr(surroundings, "CONSTRAINTS", tmp_path / "constraints.txt")
    check = surroundings.versions()
    assert not check.ok
    assert check.detail == f"no-such-package is missing; psutil is {psutil.__version__}, expected ==0.1"
    (tmp_path / "constraints.txt").write_text("# pins\nnot-installed==1\npyyaml==0.1\n")
    assert "pyyaml is" in surroundings.versions().detail


@pytest.mark.parametrize(
    ("master", "options", "advised"),
    [
        ("local[4]", {}, False),
        ("local-cluster[2,1,1024]", {}, False),
        ("spark://head:7077", {}, True),
        ("yarn", {"spark.authenticate": "true"}, True),
        ("yarn", {"spark.authenticate": "true", "spark.network.crypto.enabled": "true"}, False),
        ("yarn", {"spark.authenticate": "true", "spark.ssl.rpc.enabled": "true"}, False),
    ],
)
def test_spark_over_machines_should_be_guarded(monkeypatch, master, options, advised):
    monkeypatch.delenv("SPARK_CONF_DIR", raising=False)
    monkeypatch.delenv("SPARK_HOME", raising=False)
    check = surroundings.spark_security(SparkConfig(master=master, options=options))
    assert check.ok
    assert bool(check.hint) is advised


def test_the_site_s_spark_settings_count(tmp_path, monkeypatch):
    text = "# site\nspark.master  spark://head:7077\nspark.authenticate=true\n\nspark.network.crypto.enabled true\n"
    (tmp_path / "spark-defaults.conf").write_text(text)
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    check = surroundings.spark_security(SparkConfig())
    assert check.detail == "spark://head:7077: authentication on, network encryption on"
    assert check.hint is None


def test_missing_jars_say_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("ECDCTR_JARS", str(tmp_path))
    with pytest.raises(NotReadyError, match=r"lacks delta-spark_2\.13-4\.0\.1\.jar") as caught:
        jars.delta_jars()
    assert "make setup" in (caught.value.hint or "")
    assert not surroundings.jars(thorough=False).ok


def test_damaged_jars_are_seen_when_looked_at_closely(tmp_path, monkeypatch):
    monkeypatch.setenv("ECDCTR_JARS", str(tmp_path))
    for name in jars.JARS:
        (tmp_path / name).write_bytes(b"not a jar")
    assert [path.name for path in jars.delta_jars()] == list(jars.JARS)
    assert surroundings.jars(thorough=False).ok
    check = surroundings.jars(thorough=True)
    assert not check.ok
    assert all(name in check.detail for name in jars.JARS)


def test_the_cache_follows_the_user_s_setting(monkeypatch):
    monkeypatch.delenv("ECDCTR_JARS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert jars.jars_folder() == Path("/some/cache/ecdctr/jars/delta-4.0.1")
    assert cache.cache_folder() == jars.cache_folder()


def test_jars_are_found_without_loading_spark():
    code = "import sys, ecdctr.lake.jars; print([m for m in ('pyspark', 'torch', 'delta') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
