"""Columns that change from file to file are named exactly."""

import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecdctr.config.dataset import Source
from ecdctr.etl.drift import refuse_drift
from ecdctr.exceptions import InputError

pytestmark = pytest.mark.unit

FIRST = {"user": pa.array([1]), "item": pa.array(["i"]), "extra": pa.array([{"a": 1, "b": "x"}])}


@pytest.fixture
def compare(tmp_path):
    def run(second, policy="fail", kind="parquet"):
        files = []
        for name, columns in (("a b", FIRST), ("c", second)):
            file = tmp_path / f"{name}.{kind}"
            if kind == "csv":
                file.write_text(",".join(columns) + "\n")
            else:
                pq.write_table(pa.table(columns), file)
            files.append(file.as_uri().replace("file:///", "file:/"))
        source = Source(path=str(tmp_path), format=kind, schema_drift=policy)
        refuse_drift(source, "dataset.ads", files, files[1:], ["user", "item", "extra"])

    return run


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({k: v for k, v in FIRST.items() if k != "user"}, "column 'user' (int64) is missing"),
        ({"usr": FIRST["user"], "item": FIRST["item"], "extra": FIRST["extra"]}, "perhaps renamed to 'usr'"),
        (FIRST | {"user": pa.array([1], pa.int32())}, "column 'user' is int32, was int64"),
        (FIRST | {"extra": pa.array([{"a": "1", "b": "x"}])}, "column 'extra.a' is string, was int64"),
        (FIRST | {"extra": pa.array([{"a": 1}])}, "column 'extra.b' (string) is missing"),
    ],
)
def test_a_column_that_is_read_must_stay_as_it_was(compare, second, words, caplog):
    with pytest.raises(InputError) as caught:
        compare(second)
    assert words in str(caught.value)
    assert "c.parquet differs from a b.parquet" in str(caught.value)
    with caplog.at_level(logging.WARNING):
        compare(second, "warn")
    assert words in caplog.text


def test_columns_that_nobody_reads_may_come_and_go(compare, caplog):
    with caplog.at_level(logging.WARNING):
        compare(FIRST | {"more": pa.array([1])})
    assert "c.parquet: column 'more' (int64) is new" in caplog.text
    caplog.clear()
    compare(dict(reversed(FIRST.items())))
    assert caplog.text == ""


def test_headers_of_text_files_are_compared(compare):
    with pytest.raises(InputError, match=r"column 'item' \(text\) is missing"):
        compare({"user": 1, "extra": 1}, kind="csv")


def test_a_damaged_file_is_named(compare, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"x\.parquet is damaged"):
        refuse_drift(Source(path="x"), "dataset.ads", [str(tmp_path / "x.parquet")], [str(tmp_path / "x.parquet")], [])
