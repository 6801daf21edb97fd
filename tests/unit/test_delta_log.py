"""Versions of a Delta table read from its log, against logs written out by hand."""

import datetime as dt
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecdctr.exceptions import InputError, NotReadyError
from ecdctr.lake.delta_log import newest_version, read_note, read_snapshot

pytestmark = pytest.mark.unit


def add(path, rows=1, **more):
    day = {"event_date": path.split("/")[0].removeprefix("event_date=")} if "/" in path else {}
    return {
        "add": {"path": path, "size": 10, "partitionValues": day, "stats": json.dumps({"numRecords": rows}), **more}
    }


def commit(table, version, *actions):
    log = table / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    (log / f"{version:020d}.json").write_text("\n".join(json.dumps(action) for action in actions) + "\n")


def metadata(**configuration):
    return {"metaData": {"id": "x", "configuration": configuration, "schemaString": "{}"}}


PROTOCOL = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 3}}


@pytest.fixture
def table(tmp_path):
    commit(tmp_path, 0, PROTOCOL, metadata())
    commit(tmp_path, 1, add("event_date=2024-01-02/b.parquet", 3), add("event_date=2024-01-01/a%20b.parquet", 2))
    commit(tmp_path, 2, {"remove": {"path": "event_date=2024-01-02/b.parquet"}}, add("event_date=2024-01-02/c.parquet", 5),
           {"txn": {"appId": "prepare", "version": 7}}, {"commitInfo": {"userMetadata": "noted"}})  # fmt: skip
    return tmp_path


def test_a_version_is_its_active_files_by_day_then_name(table):
    snapshot = read_snapshot(table)
    assert (snapshot.version, snapshot.rows, snapshot.transactions) == (2, 7, {"prepare": 7})
    assert [file.path for file in snapshot.files] == [
        str(table / "event_date=2024-01-01/a b.parquet"),
        str(table / "event_date=2024-01-02/c.parquet"),
    ]
    assert [file.event_date for file in snapshot.files] == [dt.date(2024, 1, 1), dt.date(2024, 1, 2)]
    assert read_snapshot(table, 1).rows == 5
    assert read_note(table, 2) == "noted"
    assert read_note(table, 1) is None


def test_files_that_only_lie_in_the_folder_are_not_read(table):
    (table / "event_date=2024-01-01").mkdir()
    (table / "event_date=2024-01-01" / "stale.parquet").write_bytes(b"stale")
    assert all("stale" not in file.path for file in read_snapshot(table).files)


def test_a_checkpoint_stands_for_the_commits_before_it(table):
    actions = [
        {"add": {"path": "event_date=2024-01-01/a.parquet", "size": 1, "partitionValues": [("event_date", "2024-01-01")],
                 "stats": '{"numRecords": 4}', "deletionVector": None}, "txn": None},
        {"add": None, "txn": {"appId": "prepare", "version": 9}},
    ]  # fmt: skip
    type_ = pa.struct([
        ("path", pa.string()), ("size", pa.int64()), ("partitionValues", pa.map_(pa.string(), pa.string())),
        ("stats", pa.string()), ("deletionVector", pa.struct([("storageType", pa.string())])),
    ])  # fmt: skip
    txn = pa.struct([("appId", pa.string()), ("version", pa.int64())])
    schema = pa.schema([("add", type_), ("txn", txn)])
    pq.write_table(pa.Table.from_pylist(actions, schema), table / "_delta_log" / f"{2:020d}.checkpoint.parquet")
    commit(table, 3, add("event_date=2024-01-03/d.parquet", 6))
    for version in (0, 1, 2):
        (table / "_delta_log" / f"{version:020d}.json").unlink()
    snapshot = read_snapshot(table)
    assert (snapshot.rows, snapshot.transactions) == (10, {"prepare": 9})
    with pytest.raises(InputError, match="lacks commit 0"):
        read_snapshot(table, 1)


def test_an_incomplete_checkpoint_is_passed_over(table):
    (table / "_delta_log" / f"{2:020d}.checkpoint.0000000001.0000000002.parquet").write_bytes(b"half")
    assert read_snapshot(table).rows == 7


@pytest.mark.parametrize(
    ("actions", "named"),
    [
        ([add("event_date=2024-01-01/v.parquet", deletionVector={"storageType": "u"})], "deletion vectors"),
        ([metadata(**{"delta.columnMapping.mode": "name"})], r"column mapping \(name\)"),
        ([{"protocol": {"minReaderVersion": 3, "readerFeatures": ["typeWidening"]}}], "typeWidening"),
    ],
)
def test_a_table_that_plain_readers_would_misread_is_refused(table, actions, named):
    commit(table, 3, *actions)
    with pytest.raises(InputError, match=named):
        read_snapshot(table)


def test_no_table_and_no_version(tmp_path, table):
    assert newest_version(tmp_path / "nothing") is None
    with pytest.raises(NotReadyError, match="no Delta table"):
        read_snapshot(tmp_path / "nothing")
    with pytest.raises(InputError, match="from 0 to 2"):
        read_snapshot(table, 3)
