"""The order of commits decides what tables say, not the clocks of writers; each commit has a place of its own in it."""

import datetime as dt
import json
import subprocess
import sys

import pytest

from ecdctr.exceptions import TemporaryError
from ecdctr.lake import maintenance, tables
from ecdctr.lake.leases import exclusive
from ecdctr.lake.ledger import Ledger
from ecdctr.lake.schema import TABLES
from ecdctr.lake.tables import Lake
from tests.unit.hand_made_tables import write_table

pytestmark = pytest.mark.unit

KINDS = {"int": "integer", "bigint": "long"}
FIELDS = {column.name: KINDS.get(column.type, column.type) for column in TABLES["ledger"].columns}


def row(seq, at, version, alias=None):
    named: dict[str, object] = dict.fromkeys(FIELDS)
    named |= {
        "seq": seq, "kind": "version" if alias is None else "alias", "version": version, "alias": alias,
        "committed_at": at, "writer": f"w{seq}", "parents": [], "tables": {"ad_samples": 1}, "level": "actr", "arm": "a",
        "date": dt.date(2024, 1, seq), "metrics_json": "{}",
    }  # fmt: skip
    return list(named.values())


def test_of_two_writers_the_later_commit_counts_though_its_clock_is_a_year_behind(tmp_path):
    now = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
    behind = now - dt.timedelta(days=365)
    summer = now.astimezone(dt.timezone(dt.timedelta(hours=2)))
    # As files may lie: the place in the order of commits is the row's own.
    rows = [
        row(4, behind, "second", "serving"),
        row(1, summer, "first"),
        row(3, now, "first", "serving"),
        row(2, behind, "second"),
    ]
    write_table(tmp_path, "ledger", FIELDS, [rows])
    ledger = Ledger(Lake(lambda: pytest.fail("no Spark is needed"), tmp_path))
    assert [entry.version for entry in ledger.versions()] == ["first", "second"]
    assert ledger.alias("serving") == "second"
    assert ledger.versions()[0].committed_at == now


COMMITS = 10
WRITER = """
import json, sys, time
from pathlib import Path
from types import SimpleNamespace
from ecdctr.lake.delta_log import newest_version
from ecdctr.lake.tables import Lake

class Writer:
    def format(self, name):
        return self

    mode = format

    def options(self, userMetadata):
        self.note = userMetadata
        return self

    def save(self, path):
        # As Delta does on local paths: it looks, then renames.
        log = Path(path.removeprefix("file:")) / "_delta_log"
        taken = log / f"{newest_version(log.parent) + 1:020d}.json"
        draft = log / f".{self.note}"
        draft.write_text(json.dumps({"commitInfo": {"userMetadata": self.note}}))
        time.sleep(0.002)
        draft.rename(taken)

lake = Lake(lambda: None, Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    lake.append("ledger", SimpleNamespace(write=Writer()), note=f"{sys.argv[2]}-{number}")
"""


def test_of_processes_that_commit_to_one_table_at_once_none_overwrites_anothers_commit(tmp_path):
    write_table(tmp_path, "ledger", FIELDS, [[row(1, dt.datetime(2024, 5, 1, tzinfo=dt.UTC), "v")]])
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(job), str(COMMITS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for job in range(3)
    ]  # fmt: skip
    for job in jobs:
        assert job.stdout is not None
        job.stdout.readline()
    for job in jobs:
        assert job.stdin is not None
        job.stdin.write("\n")
        job.stdin.flush()
    for job in jobs:
        job.communicate(timeout=120)
        assert job.returncode == 0
    logged = [json.loads(file.read_text()) for file in sorted((tmp_path / "ledger" / "_delta_log").glob("0*.json"))[1:]]
    notes = [action["commitInfo"]["userMetadata"] for action in logged]
    assert sorted(notes) == sorted(f"{job}-{number}" for job in range(3) for number in range(COMMITS))
    for job in range(3):
        own = [note for note in notes if note.startswith(f"{job}-")]
        assert own == [f"{job}-{number}" for number in range(COMMITS)]


def test_a_table_is_created_and_written_together_while_nobody_else_commits_to_it(tmp_path, monkeypatch):
    done = []

    def commit(*_):
        with pytest.raises(TemporaryError, match="another commit-ledger"), exclusive(tmp_path, "commit-ledger", 0):
            pass
        with exclusive(tmp_path, "commit-predictions", 0):
            done.append("commit")

    class Optimizing:
        forPath = optimize = lambda self, *_: self
        executeCompaction = staticmethod(commit)

    monkeypatch.setattr(tables, "create_table", commit)
    monkeypatch.setattr(maintenance, "DeltaTable", Optimizing())
    lake = Lake(lambda: None, tmp_path)
    lake.create("ledger")
    now = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
    write_table(tmp_path, "ledger", FIELDS, [[row(seq, now, "v")] for seq in range(1, 9)])
    maintenance.compact(lake, "ledger")
    assert done == ["commit", "commit"]
