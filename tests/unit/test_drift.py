"""Columns that change from file to file are named exactly."""

import gzip
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecdctr.config.dataset import Source
from ecdctr.etl.drift import columns_of, refuse_drift
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


def test_text_files_are_read_by_place_so_columns_may_not_change_theirs(compare, caplog):
    for second in ({"item": 1, "user": 1, "extra": 1}, {"new": 1, "user": 1, "item": 1, "extra": 1}):
        with pytest.raises(InputError, match=r"c\.csv has the columns .*, and a b\.csv has user, item, extra"):
            compare(second, "warn", kind="csv")
    with caplog.at_level(logging.WARNING):
        compare({"user": 1, "item": 1, "extra": 1, "more": 1}, kind="csv")
    assert "column 'more' (text) is new" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", "user,größe\n".encode("latin-1"), "is not text in UTF-8"),
        ("x.csv.gz", gzip.compress(b"user,item\n" * 99, mtime=0)[:12], "is damaged or missing"),
    ],
)
def test_text_that_cannot_be_read_is_named(tmp_path, name, content, words):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError, match=words):
        refuse_drift(Source(path="x", format="csv"), "dataset.ads", [str(file)], [str(file)], ["user"])


def test_a_mark_at_the_beginning_is_no_part_of_a_name_and_other_packings_are_left_to_spark(tmp_path):
    marked, plain, packed = (tmp_path / name for name in ("a.csv", "b.dat", "c.csv.bz2"))
    marked.write_text("user,item\n", encoding="utf-8-sig")
    plain.write_text("user,item\n", encoding="utf-8")
    packed.write_bytes(b"BZh9")
    assert columns_of(marked, "csv") == columns_of(plain, "csv") == {"user": "text", "item": "text"}
    assert columns_of(packed, "csv") is None
    names = [str(file) for file in (marked, plain, packed)]
    refuse_drift(Source(path="x", format="csv"), "dataset.ads", names, names[1:], ["user", "item"])
    plain.write_text("user\n", encoding="utf-8")
    with pytest.raises(InputError, match="column 'item' \\(text\\) is missing"):
        refuse_drift(Source(path="x", format="csv"), "dataset.ads", names, names[1:], ["user", "item"])


def test_a_damaged_file_is_named(compare, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"x\.parquet is damaged"):
        refuse_drift(Source(path="x"), "dataset.ads", [str(tmp_path / "x.parquet")], [str(tmp_path / "x.parquet")], [])
