"""Clean-up against logs written out by hand: what is live, leased or young stays."""

import datetime as dt
import errno
import fcntl
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ecdctr.artifacts.files import TEMPORARY_PREFIX
from ecdctr.artifacts.leftovers import discard, leftovers, out_of_use
from ecdctr.artifacts.store import ArtifactStore
from ecdctr.config import load_config
from ecdctr.config.operations import MaintenanceConfig
from ecdctr.exceptions import AlreadyDone, InputError, TemporaryError
from ecdctr.lake import leases
from ecdctr.lake.leases import FOLDER, Lease, exclusive, leased
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.lake.maintenance import live_models, pins_of, plan_sweeps, sweep
from ecdctr.pipelines.maintain import vacuum
from ecdctr.pipelines.workspace import Workspace
from tests.unit.test_levels_baselines import SIMULATED
from tests.unit.wall_clock import set_clock

pytestmark = pytest.mark.unit

NOW = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
TABLE = "ad_samples"


def commit(table, version, *actions):
    (table / "_delta_log").mkdir(parents=True, exist_ok=True)
    text = "\n".join(json.dumps(action) for action in actions)
    (table / "_delta_log" / f"{version:020d}.json").write_text(text)


def add(name):
    return {"add": {"path": name, "size": 3, "partitionValues": {}, "stats": '{"numRecords": 1}'}}


def remove(name, days_ago):
    moment = NOW - dt.timedelta(days=days_ago)
    return {"remove": {"path": name, "deletionTimestamp": int(moment.timestamp() * 1000)}}


@pytest.fixture
def root(tmp_path):
    """Version 1: a; 2: b; 3: c; 4: d. All files are old; the table had b until 3 days ago."""
    table = tmp_path / TABLE
    commit(table, 0, {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": {"schemaString": "{}"}})
    commit(table, 1, add("a.parquet"))
    commit(table, 2, remove("a.parquet", 30), add("b%20x.parquet"))
    commit(table, 3, remove("b%20x.parquet", 3), add("c.parquet"))
    commit(table, 4, remove("c.parquet", 20), add("d.parquet"))
    for name in ("a", "b x", "c", "d", "orphan", "young"):
        write(table / f"{name}.parquet", 0 if name == "young" else 40)
    write(table / "_change_data" / "kept.parquet", 40)
    return tmp_path


def write(file, days_ago):
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"abc")
    moment = (NOW - dt.timedelta(days=days_ago)).timestamp()
    os.utime(file, (moment, moment))


def swept(root, pins):
    (plan,) = plan_sweeps(root, pins, NOW - dt.timedelta(days=7))
    return plan, sorted(file.name for file in plan.files)


def test_only_what_no_kept_version_has_and_nobody_used_lately_goes(root):
    plan, names = swept(root, {})
    assert names == ["a.parquet", "c.parquet", "orphan.parquet"]
    assert (plan.bytes, plan.kept_files, plan.newest, plan.pinned) == (9, 2, 4, ())
    plan, names = swept(root, {TABLE: {1, 4}})
    assert (names, plan.pinned) == (["c.parquet", "orphan.parquet"], (1,))
    before = sorted(file.name for file in (root / TABLE).iterdir())
    assert sweep(plan) == 2
    assert sorted(file.name for file in (root / TABLE).iterdir()) == [
        name for name in before if name not in ("c.parquet", "orphan.parquet")
    ]


def test_a_pinned_version_that_nobody_can_read_stops_the_clean_up_of_its_table(root):
    with pytest.raises(InputError, match="version 9, which a live model or a running job names"):
        swept(root, {TABLE: {9}})


def entry(version, day, parents=(), level="actr", **more):
    date = dt.date(2024, 2, day)
    made = LedgerEntry(
        version=version, level=level, arm="ecdctr", date=date, window_from=date, window_until=date, parents=tuple(parents),
        tables={TABLE: day}, config_digest="c", code_version="1", feature_fingerprint="f", seed=1, ranks=1,
        artifact=version, digest=version, committed_at=dt.datetime(2024, 2, day, tzinfo=dt.UTC),
    )  # fmt: skip
    return replace(made, **more)


def test_models_in_use_keep_their_rows_and_those_of_what_they_were_made_from():
    entries = [
        entry("tpm", 1, level="tpm"), entry("cpm1", 2, ["tpm"], level="cpm"), entry("cpm2", 8, level="cpm"),
        entry("old", 3), entry("aliased", 4, ["cpm1"]), entry("middle", 5), entry("newest", 9, ["cpm2"]),
    ]  # fmt: skip
    live = live_models(entries, ["aliased"], dt.datetime(2024, 2, 20, tzinfo=dt.UTC)).models
    assert set(live) == {"tpm", "cpm1", "cpm2", "aliased", "newest"}
    assert pins_of(live.values()) == {TABLE: {1, 2, 4, 8, 9}}
    assert set(live_models(entries, [], dt.datetime(2024, 2, 5, tzinfo=dt.UTC)).models) == {
        "tpm",
        "cpm2",
        "middle",
        "newest",
    }


def test_a_lease_holds_until_it_is_released_or_its_process_ends(tmp_path):
    mine = Lease(tmp_path)
    mine.pin(TABLE, 1)
    mine.pin(TABLE, 3)
    code = (
        "import sys; from pathlib import Path; from ecdctr.lake.leases import Lease\n"
        f"Lease(Path({str(tmp_path)!r})).pin({TABLE!r}, 7); print('held', flush=True); sys.stdin.read()"
    )
    job = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert job.stdout is not None
    job.stdout.readline()
    assert leased(tmp_path) == {TABLE: {1, 3, 7}}
    job.kill()
    job.communicate()
    assert leased(tmp_path) == {TABLE: {1, 3}}
    mine.release()
    assert leased(tmp_path) == {}
    assert list((tmp_path / FOLDER).glob("*.json")) == []


def test_leases_of_other_machines_run_out_and_unreadable_ones_stop_a_clean_up(tmp_path):
    lease = Lease(tmp_path)
    lease.pin(TABLE, 1)
    tree = json.loads(lease.path.read_text())
    lease.path.write_text(json.dumps(tree | {"process": tree["process"] | {"machine": "elsewhere", "pid": 1}}))
    assert leased(tmp_path) == {TABLE: {1}}
    os.utime(lease.path, (0, 0))
    assert leased(tmp_path) == {}
    lease.path.write_text("{")
    with pytest.raises(TemporaryError, match="no readable lease"):
        leased(tmp_path)


class Publishing:
    """A ledger; the moment before it is read, or after, the job that reads version 1 publishes its model and ends."""

    def __init__(self, lease, before):
        self.lease, self.before, self.entries = lease, before, []

    def versions(self):
        found = list(self.entries)
        self.entries.append(entry("made", 25, tables={TABLE: 1}))
        self.lease.release()
        return list(self.entries) if self.before else found

    def aliases(self):
        return {}


@pytest.mark.parametrize("before", [False, True])
def test_what_a_job_reads_stays_when_it_publishes_and_ends_during_the_clean_up(root, before):
    lease = Lease(root)
    lease.pin(TABLE, 1)
    workspace = SimpleNamespace(
        root=root, ledger=Publishing(lease, before), config=SimpleNamespace(maintenance=MaintenanceConfig())
    )
    vacuum(workspace, remove=True, now=NOW)
    assert (root / TABLE / "a.parquet").exists()
    assert not (root / TABLE / "c.parquet").exists()


def seconds_old(lease, seconds):
    moment = lease.path.stat().st_mtime - seconds
    os.utime(lease.path, (moment, moment))
    return lease.path.stat().st_mtime


def test_a_lease_is_renewed_once_a_minute_and_written_anew_where_another_machine_removed_it(tmp_path, monkeypatch):
    lease = Lease(tmp_path)
    lease.renew()
    assert not lease.path.exists()
    lease.pin(TABLE, 1)
    text, old = lease.path.read_text(), seconds_old(lease, 1000)
    lease.renew()
    assert lease.path.stat().st_mtime == old
    monkeypatch.setattr(leases, "RENEWED_SECONDS", 0)
    lease.renew()
    assert lease.path.stat().st_mtime > old + 900
    lease.path.unlink()
    lease.renew()
    assert lease.path.read_text() == text
    lease.release()
    lease.renew()
    assert not lease.path.exists()


def test_whatever_a_command_does_renews_its_lease_and_so_do_its_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "RENEWED_SECONDS", 0)
    with Workspace(load_config(SIMULATED, [f"warehouse={tmp_path}"])) as opened:
        for table in (TABLE, "natural_samples"):
            actions = {"protocol": {"minReaderVersion": 1}}, {"metaData": {"schemaString": "{}"}}
            commit(opened.root / table, 0, *actions)
        opened.pinned(TABLE)
        monkeypatch.setattr(opened, "rows_until", lambda date: {})
        ages = []

        class Ranks:
            def call(self, name, payload, on_progress):
                for _ in range(2):
                    ages.append(opened.lease.path.stat().st_mtime)
                    seconds_old(opened.lease, 1000)
                    on_progress({})
                return [{}]

        for at in (opened, opened.beside(1)):
            at._ranks = Ranks()
            old = seconds_old(opened.lease, 1000)
            at.pinned(TABLE)
            assert opened.lease.path.stat().st_mtime > old + 900
            old = seconds_old(opened.lease, 1000)
            at.call("task", {}, "level")
            assert min(*ages, opened.lease.path.stat().st_mtime) > old + 900
            at._ranks = None
        assert leased(opened.root) == {TABLE: {0}, "natural_samples": {0}}


def test_a_lease_as_it_was_written_before_runs_out_like_one_of_another_machine(tmp_path):
    (tmp_path / FOLDER).mkdir()
    lease = tmp_path / FOLDER / "before.json"
    lease.write_text(json.dumps({"host": socket.gethostname(), "process": 1, "started": 0.5, "tables": {TABLE: [1]}}))
    assert leased(tmp_path) == {TABLE: {1}}
    os.utime(lease, (0, 0))
    assert leased(tmp_path) == {}


def test_a_lease_holds_though_the_clock_is_set(tmp_path, monkeypatch):
    Lease(tmp_path).pin(TABLE, 1)
    set_clock(monkeypatch, 3600)
    assert leased(tmp_path) == {TABLE: {1}}


def test_what_trainings_left_that_were_given_up_goes_and_nothing_that_is_published_or_young(tmp_path):
    def folder(name, seconds, *files):
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(b"four")
        for path in sorted((tmp_path / name).rglob("*"), reverse=True):
            os.utime(path, (seconds, seconds))
        os.utime(tmp_path / name, (seconds, seconds))
        return tmp_path / name

    old = [
        folder("_artifacts/never-published", 99, "network.safetensors"),
        folder("_checkpoints/given-up", 99, "step-1/state", "best/step-1/state"),
        folder("_sessions/failed", 99, "rank0.log"),
        folder("_staging/killed", 99, "actr-1/rank-0/scores.parquet"),
    ]
    kept = [
        folder("_artifacts/published", 99, "network.safetensors"),
        folder("_artifacts/.tmp-other", 99, "network.safetensors"),
        folder("_artifacts/not-yet-published", 101, "network.safetensors"),
        folder("_leases/other", 99, "x"),
    ]
    # Written to since its folder was made.
    goes_on = folder("_checkpoints/goes-on", 99, "step-1/state", "step-2/state")
    os.utime(goes_on / "step-2" / "state", (101, 101))
    found = leftovers(tmp_path, {"published"}, 100)
    assert {each.folder for each in found} == set(old)
    assert all(each.bytes >= 4 for each in found)
    assert not {each.folder for each in found} & {*kept, goes_on}
    assert leftovers(tmp_path / "nowhere", set(), 100) == []


def store_of(root):
    """A year-old walk: two CPM with their days, a snapshot, and what was served before; each with its files."""
    entries = [
        entry("tpm-1", 1, level="tpm"), entry("cpm-1", 1, level="cpm"), entry("cpm-2", 4, level="cpm"),
        entry("day-1", 1, ["cpm-1"]), entry("day-2", 2, ["day-1"]), entry("day-3", 3, ["day-2"]),
        entry("day-4", 4, ["cpm-2", "tpm-1"]), entry("day-5", 5, ["day-4"]), entry("gone", 1),
        entry("served-first", 1, config_digest="other"), entry("newest-of-other", 2, config_digest="other"),
    ]  # fmt: skip
    for made in entries:
        if made.version != "gone":
            (root / "_artifacts" / made.version).mkdir(parents=True)
            (root / "_artifacts" / made.version / "network.safetensors").write_bytes(b"four")
    trail = ["day-1", "day-3", "served-first", "day-5"]
    ledger = SimpleNamespace(
        versions=lambda: entries, aliases=lambda: {"serving": trail[-1]}, trail=lambda name: list(trail)
    )
    return SimpleNamespace(root=root, ledger=ledger, config=SimpleNamespace(maintenance=MaintenanceConfig()))


def artifacts(root):
    return sorted(path.name for path in (root / "_artifacts").iterdir())


def test_versions_out_of_use_lose_their_files_but_for_snapshots_and_the_way_back(tmp_path):
    workspace, later = store_of(tmp_path), NOW + dt.timedelta(days=365)
    everything = artifacts(tmp_path)
    assert vacuum(workspace, remove=False, now=NOW)["versions"]["count"] == 0
    workspace.ledger.trail = lambda name: ["served-first", "day-5"]
    asked = vacuum(workspace, remove=False, now=later)["versions"]
    assert asked["count"] == 4
    assert asked["bytes"] == 16
    assert artifacts(tmp_path) == everything
    assert vacuum(workspace, remove=True, now=later)["versions"] == asked
    assert artifacts(tmp_path) == ["cpm-2", "day-4", "day-5", "newest-of-other", "served-first", "tpm-1"]
    with pytest.raises(AlreadyDone):
        vacuum(workspace, remove=True, now=later)


def test_what_two_rollbacks_come_to_keeps_its_files_and_those_it_was_made_from(tmp_path):
    vacuum(store_of(tmp_path), remove=True, now=NOW + dt.timedelta(days=365))
    # day-3 is one of the last three that served, and was made from day-2, which needs neither day-1 nor cpm-1 any more.
    kept = ["cpm-2", "day-2", "day-3", "day-4", "day-5", "newest-of-other", "served-first", "tpm-1"]
    assert artifacts(tmp_path) == kept


def test_while_a_job_runs_every_version_keeps_its_files(tmp_path):
    workspace, later = store_of(tmp_path), NOW + dt.timedelta(days=365)
    workspace.ledger.trail = lambda name: ["day-5"]
    lease = Lease(tmp_path)
    lease.pin(TABLE, 1)
    assert vacuum(workspace, remove=False, now=later)["versions"]["count"] == 0
    lease.release()
    assert vacuum(workspace, remove=False, now=later)["versions"]["count"] == 5


def test_the_newest_is_that_of_the_last_day_whenever_an_earlier_one_was_published():
    june = replace(entry("june", 1), date=dt.date(2024, 6, 1), seq=1)
    filled = replace(entry("backfilled-may", 2), date=dt.date(2024, 5, 1), seq=2)
    live = live_models([june, filled], [], NOW + dt.timedelta(days=365))
    assert live.artifacts == {"june"}


def test_a_folder_is_gone_at_once_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "_artifacts" / "one").mkdir(parents=True)
    (left,) = out_of_use(tmp_path, {"one"})
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    discard(left)
    assert all(name.startswith(TEMPORARY_PREFIX) for name in artifacts(tmp_path))
    discard(left)


def test_what_starts_from_a_version_without_files_is_refused(tmp_path):
    store = ArtifactStore(tmp_path)
    (tmp_path / "there").mkdir()
    assert store.existing("there") == tmp_path / "there"
    with pytest.raises(InputError, match="the files of cpm-1, from which this would start, are gone"):
        store.existing("cpm-1")


def test_one_job_at_a_time_and_a_killed_one_gives_way(tmp_path):
    code = (
        "import sys; from pathlib import Path; from ecdctr.lake.leases import exclusive\n"
        f"with exclusive(Path({str(tmp_path)!r}), 'prepare'): print('held', flush=True); sys.stdin.read()"
    )
    job = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert job.stdout is not None
    job.stdout.readline()
    with pytest.raises(TemporaryError, match="another prepare"), exclusive(tmp_path, "prepare", 0.3):
        pass
    with exclusive(tmp_path, "vacuum", 0.3):
        pass
    job.kill()
    job.communicate()
    with exclusive(tmp_path, "prepare", 5):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_jobs_go_on_with_one_warning(tmp_path, monkeypatch, caplog, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING), exclusive(tmp_path, "prepare", 0), exclusive(tmp_path, "prepare", 0):
        pass
    (warning,) = caplog.messages
    assert str(tmp_path) in warning
    assert os.strerror(number) in warning
