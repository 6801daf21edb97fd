"""Columns that change from file to file are named exactly."""

import gzip
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecdctr.config.dataset import DatasetConfig
from ecdctr.etl.drift import columns_of, refuse_drift
from ecdctr.etl.source import columns_used
from ecdctr.exceptions import InputError

pytestmark = pytest.mark.unit

FIRST = {"user": pa.array([1]), "item": pa.array(["i"]), "extra": pa.array([{"a": 1, "b": "x"}])}


@pytest.fixture
def compare(tmp_path):
    def run(second, policy="fail", kind="parquet", used=("user", "item", "extra"), expressions=()):
        files = []
        for name, columns in (("a b", FIRST), ("c", second)):
            file = tmp_path / f"{name}.{kind}"
            if kind == "csv":
                file.write_text(",".join(columns) + "\n")
            else:
                pq.write_table(pa.table(columns), file)
            files.append(file.as_uri().replace("file:///", "file:/"))
        refuse_drift(kind, policy, "dataset.ads", files, files[1:], used, expressions)

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


@pytest.mark.parametrize(
    ("expression", "read"),
    [
        ("CASE WHEN item = 'x' THEN 1 ELSE 0 END", True),
        ("ITEM='x'", True),
        ("`item`>1 AND extra.a = 1", True),
        ("item_kind = items + my_item", False),
        ("extra.a = 1", False),
    ],
)
def test_a_column_that_sql_mentions_is_read(compare, caplog, expression, read):
    second = {"user": FIRST["user"], "kind": FIRST["item"], "extra": FIRST["extra"]}
    if read:
        with pytest.raises(InputError, match=r"column 'item' \(string\) is missing, perhaps renamed to 'kind'"):
            compare(second, used=["user"], expressions=["user > 0", expression])
    compare(second, "warn" if read else "fail", used=["user"], expressions=["user > 0", expression])
    assert "column 'item' (string) is missing" in caplog.text


def test_a_nested_column_that_sql_mentions_is_read(compare):
    with pytest.raises(InputError, match=r"column 'extra\.a' is string, was int64"):
        compare(FIRST | {"extra": pa.array([{"a": "1", "b": "x"}])}, used=["user"], expressions=["Extra.a > 0"])


def test_columns_used_are_those_of_the_mapping_of_features_of_joins_and_of_made_rows():
    columns = {"user": "u", "item": "i", "time": {"column": "t"}, "label": "y", "event_id": ["e"]}
    natural = {
        "path": "n", "derive": {"y": "act = 'click'", "i": "concat(a, b)"}, "where": "place = 1",
        "side_tables": [{"path": "s", "key": "shop", "columns": ["town"]}], "negatives": {"item_columns": ["a", "b"]},
    }  # fmt: skip
    features = [{"name": "town", "kind": "id"}, {"name": "price", "kind": "number"}]
    tree = {"natural": natural, "ads": {"path": "a"}, "columns": columns, "features": features}
    dataset = DatasetConfig.model_validate(tree)
    names, expressions = columns_used(dataset, dataset.natural)
    assert set(names) == {"u", "i", "t", "y", "e", "town", "price", "shop", "a", "b"}
    assert expressions == ["act = 'click'", "concat(a, b)", "place = 1"]
    assert columns_used(dataset, dataset.ads)[1] == []


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
        refuse_drift("csv", "fail", "dataset.ads", [str(file)], [str(file)], ["user"])


def test_a_mark_at_the_beginning_is_no_part_of_a_name_and_other_packings_are_left_to_spark(tmp_path):
    marked, plain, packed = (tmp_path / name for name in ("a.csv", "b.dat", "c.csv.bz2"))
    marked.write_text("user,item\n", encoding="utf-8-sig")
    plain.write_text("user,item\n", encoding="utf-8")
    packed.write_bytes(b"BZh9")
    assert columns_of(marked, "csv") == columns_of(plain, "csv") == {"user": "text", "item": "text"}
    assert columns_of(packed, "csv") is None
    # An hour without a row, written without a header.
    packed.with_name("0.csv").write_text("")
    assert columns_of(packed.with_name("0.csv"), "csv") is None
    names = [str(file) for file in (packed.with_name("0.csv"), marked, plain, packed)]
    refuse_drift("csv", "fail", "dataset.ads", names, names[1:], ["user", "item"])
    plain.write_text("user\n", encoding="utf-8")
    with pytest.raises(InputError, match="column 'item' \\(text\\) is missing"):
        refuse_drift("csv", "fail", "dataset.ads", names, names[1:], ["user", "item"])


def test_a_damaged_file_is_named(compare, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"x\.parquet is damaged"):
        refuse_drift("parquet", "fail", "dataset.ads", [str(tmp_path / "x.parquet")], [str(tmp_path / "x.parquet")], [])
