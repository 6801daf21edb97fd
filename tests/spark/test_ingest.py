"""A user's log → clean impressions: what is refused, with which words, and what becomes of good rows."""

import datetime as dt
import re
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from ecdctr.config.dataset import TimeColumn
from ecdctr.config.schema import SparkConfig
from ecdctr.etl import clock, ingest
from ecdctr.etl.prepare import prepare
from ecdctr.exceptions import InputError
from ecdctr.lake.session import spark_session
from ecdctr.lake.tables import Lake

pytestmark = pytest.mark.spark

START, END = dt.date(2024, 1, 1), dt.date(2099, 1, 1)


def refused(spark, config, domain="natural"):
    with pytest.raises(InputError) as caught:
        ingest.refuse_bad_rows(ingest.look_through(spark, config.dataset, domain), None, END)
    return str(caught.value)


def test_a_mapping_that_does_not_fit_the_files_is_refused_with_the_nearest_name(
    spark, make_config, write_logs, tmp_path
):
    write_logs(days=1)
    raw = tmp_path / "raw"
    good = {"path": str(raw / "natural.parquet")}
    columns = make_config().dataset.columns.model_dump()
    side = raw / "side.csv"
    side.write_text("item,brand,device\ni1,x,p\ni1,y,p\n")
    joined = {"path": str(side), "format": "csv", "key": "item", "columns": ["brand"]}
    cases = [
        ({"natural": {"path": str(raw / "naturel.parquet")}}, r"naturel.parquet does not exist.*natural.parquet"),
        ({"natural": good | {"format": "delta"}}, r"no Delta table.*format: parquet"),
        ({"columns": columns | {"user": "usr_id"}}, r"no column 'usr_id'.*did you mean 'user_id'"),
        ({"features": [{"name": "categry", "kind": "id"}]}, r"no column 'categry'.*did you mean 'category'"),
        ({"natural": good | {"where": "devise = 'phone'"}}, r"natural.where: \"devise = 'phone'\" is no condition"),
        ({"natural": good | {"where": "device = = 1"}}, r"natural.where: .* is no condition"),
        ({"natural": good | {"where": "device = 'fax'"}}, r"where device = 'fax' has no rows"),
        ({"columns": columns | {"item": "price"}}, r"'price' is double, expected whole numbers or text"),
        ({"columns": columns | {"label": "ts"}}, r"'ts' is timestamp\w*, expected a number"),
        (
            {"columns": columns | {"time": {"column": "click"}}},
            r"'click' is bigint, which cannot be read as unit 'timestamp'",
        ),
        ({"natural": good | {"side_tables": [joined]}}, r"side_tables.0.path: .* several rows for one item, .*'i1'"),
        (
            {"natural": good | {"side_tables": [joined | {"columns": ["device"]}]}},
            r"device are columns of the log already",
        ),
        (
            {"natural": good | {"side_tables": [joined | {"columns": ["brnd"]}]}},
            r"side_tables.0 .*did you mean 'brand'",
        ),
    ]
    for change, words in cases:
        message = refused(spark, make_config(**change))
        assert re.search(words, message, re.DOTALL), message


@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_a_key_that_is_floating_point_on_one_side_alone_is_refused(spark, make_config, write_logs, tmp_path, kind):
    # One id is missing, so that pandas writes 5.0 for 5.
    users = pd.Series([*range(2**4), None], dtype=kind)
    path = tmp_path / "side.parquet"
    pd.DataFrame({"user_id": users, "plan": "p"}).to_parquet(path, index=False)
    side = {"path": str(path), "key": "user_id", "columns": ["plan"]}
    config = make_config(
        natural={"path": str(tmp_path / "raw" / "natural.parquet"), "side_tables": [side]},
        features=[{"name": "plan", "kind": "id"}],
    )
    frames = write_logs(1)
    found = "double" if kind == "float64" else "float"
    words = f"side_tables.0.key: 'user_id' is bigint in the log and {found} in .*side.parquet; .*write it as bigint"
    assert re.search(words, refused(spark, config), re.DOTALL)
    # Both sides floating point, or whole numbers and text, find each other.
    write_logs(1, lambda domain, frame: frame.assign(user_id=(frame["user_id"] % 7).astype(kind), name="u"))
    named = make_config(
        columns=config.dataset.columns.model_dump() | {"user": "name"}, features=[{"name": "plan", "kind": "id"}],
        natural=config.dataset.natural.model_dump(),
    )  # fmt: skip
    assert plans(spark, named) == ["p"] * len(frames["natural"])
    write_logs(1, lambda domain, frame: frame.assign(user_id=frame["user_id"] % 7))
    pd.DataFrame({"user_id": [str(user) for user in range(6)], "plan": "q"}).to_parquet(path, index=False)
    left = frames["natural"]["user_id"] % 7
    assert plans(spark, config) == [None if user == 6 else "q" for user in left]


def plans(spark, config):
    rows = ingest.look_through(spark, config.dataset, "natural").frame.collect()
    return [row["plan"] for row in sorted(rows, key=lambda row: int(row["event_id"].removeprefix("natural-")))]


def test_bad_rows_are_named_and_nothing_is_written(spark, make_config, write_logs):
    def spoil(domain, frame):
        frame = frame.astype({"user_id": "Int64"})
        if domain == "natural":
            frame.loc[3, "click"] = 2
            frame.loc[5, "user_id"] = pd.NA
            frame.loc[7, "ts"] = pd.NaT
            frame.loc[[8, 9], "item"] = ""
        return frame

    write_logs(change=spoil)
    config = make_config()
    message = refused(spark, config)
    for words in (
        "1 rows: label (click) is outside {0, 1}",
        "1 rows: user (user_id) is missing",
        "1 rows: time (ts) is missing or unreadable",
        "2 rows: item (item) is missing",
        "event_id=natural-",
        "drop_bad_rows",
    ):
        assert words in message
    with pytest.raises(InputError, match="outside"):
        prepare(spark, config, None)
    assert Lake(spark, config.warehouse_dir).describe() == []

    features = [{"name": "category", "kind": "id"}]
    config = make_config(drop_bad_rows=True, features=features)
    summary = prepare(spark, config, dt.date(2024, 1, 3))
    lake = Lake(spark, config.warehouse_dir)
    rows = {row["reason"]: row["row"] for row in lake.read("quarantine").collect()}
    assert summary.quarantined == lake.snapshot("quarantine").rows == 5
    assert '"event_id":"natural-3"' in rows["label (click) is outside {0, 1}"]
    assert lake.read("natural_impressions").count() == 75
    again = prepare(spark, config, None)
    assert (again.days, again.quarantined) == (2, 0)


@pytest.mark.parametrize("damage", ["footer", "page", "empty"])
def test_a_corrupt_file_is_named(spark, make_config, write_logs, tmp_path, damage):
    frames = write_logs(days=1)
    folder = tmp_path / "raw" / "many"
    folder.mkdir()
    frames["natural"].to_parquet(folder / "good.parquet", coerce_timestamps="us")
    broken = folder / "broken.parquet"
    content = bytearray((folder / "good.parquet").read_bytes())
    if damage == "footer":
        content[-6:] = b"\xff" * 6
    elif damage == "page":
        content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    broken.write_bytes(b"" if damage == "empty" else bytes(content))
    message = refused(spark, make_config(natural={"path": str(folder)}))
    assert "broken.parquet is damaged or missing" in message


def test_text_that_is_no_number_is_a_bad_row_and_huge_ids_stay_exact(spark, make_config, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    header = "event_id,user_id,item,ts,click,category,last_category,position,price,device\n"
    row = "{0},{1},{2},2024-01-01 00:00:0{0},1,a,b,1,{3},p\n"
    ids = ["-9223372036854775808", "9007199254740993", "16777217", "2147483648", "-2147483649", "1"]
    lines = [
        row.format(place, number, f"-{number}", price)
        for place, (number, price) in enumerate(zip(ids, ["1e3", "", "2", "3", "4", "x"], strict=True))
    ]
    (raw / "natural.csv").write_text(header + "".join(lines))
    config = make_config(natural={"path": str(raw / "natural.csv"), "format": "csv"})
    found = ingest.look_through(spark, config.dataset, "natural")
    assert {reason for reason, _ in found.bad} == {"price is no number"}
    good = (
        ingest.clean_impressions(found, config.dataset, dt.date(2024, 1, 1), dt.date(2024, 1, 2), None)
        .orderBy("event_id")
        .collect()
    )
    prices = [1000.0, None, 2.0, 3.0, 4.0]
    assert [(r["user_id"], r["item_id"], r["price"]) for r in good] == [
        (number, f"-{number}", price) for number, price in zip(ids, prices, strict=False)
    ]


def test_of_rows_with_one_id_the_earliest_clicked_smallest_is_kept(spark, make_config, write_logs):
    def double(domain, frame):
        if domain == "ad":
            return frame
        first = frame.iloc[[0]].assign(ts=pd.Timestamp("2024-01-01 05:00"), click=0, item="i5")
        rivals = [
            first.assign(ts=pd.Timestamp("2024-01-02 05:00"), click=1),
            first.assign(click=1, item="i9"),
            first.assign(click=1, item="i7"),
        ]
        return pd.concat([frame.iloc[1:], first, *rivals, frame.iloc[10:30]], ignore_index=True)

    frames = write_logs(days=2, change=double)
    dataset = make_config().dataset
    found = ingest.look_through(spark, dataset, "natural")
    once = ingest.clean_impressions(found, dataset, dt.date(2024, 1, 1), dt.date(2024, 1, 3), None)
    once = once.drop("event_time").toPandas()
    assert len(once) == frames["natural"]["event_id"].nunique() == 80
    kept = once.set_index("event_id").loc["natural-0"]
    assert (kept["item_id"], kept["label"], kept["event_date"]) == ("i7", 1, dt.date(2024, 1, 1))


TIMES = [
    (TimeColumn(column="t", unit="ms"), "bigint", "1704063599999", "2023-12-31 22:59:59.999", dt.date(2024, 1, 1)),
    (TimeColumn(column="t", unit="s"), "string", "1704067200.5", "2024-01-01 00:00:00.5", dt.date(2024, 1, 1)),
    (TimeColumn(column="t", unit="s"), "bigint", "1704067200000", None, None),
    (TimeColumn(column="t", unit="us"), "bigint", "-1", None, None),
    (TimeColumn(column="t", unit="date"), "date", "2024-01-01", "2023-12-31 22:30:00", dt.date(2024, 1, 1)),
    (TimeColumn(column="t", unit="date", format="yyyyMMdd"), "int", "20240101", "2023-12-31 22:30:00", dt.date(2024, 1, 1)),
    (TimeColumn(column="t", unit="day", origin=dt.date(2023, 12, 31)), "int", "1", "2023-12-31 22:30:00", dt.date(2024, 1, 1)),
    (TimeColumn(column="t", unit="day", origin=dt.date(2023, 12, 31)), "bigint", "9223372036854775807", None, None),
    (TimeColumn(column="t"), "string", "2023-12-31 22:29:59.9", "2023-12-31 22:29:59.9", dt.date(2023, 12, 31)),
    (TimeColumn(column="t"), "string", "2023-12-31T23:30:00+01:00", "2023-12-31 22:30:00", dt.date(2024, 1, 1)),
    (TimeColumn(column="t", format="dd.MM.yyyy HH:mm"), "string", "31.12.2023 22:30", "2023-12-31 22:30:00", dt.date(2024, 1, 1)),
    (TimeColumn(column="t"), "string", "yesterday", None, None),
]  # fmt: skip


def test_times_of_every_unit_on_a_clock_that_is_ahead(spark):
    offset = clock.offset_micros("+01:30")
    for time, kind, text, utc, day in TIMES:
        frame = spark.sql(f"SELECT CAST('{text}' AS {kind}) AS t")
        micros = frame.select(clock.event_micros(frame, time, offset, "x").alias("m"))
        row = micros.select(
            F.date_format(F.timestamp_micros("m"), "yyyy-MM-dd HH:mm:ss.SSS").alias("utc"),
            F.date_from_unix_date(clock.day_number(F.col("m"), offset)).alias("day"),
            clock.hour(F.col("m"), offset).alias("hour"),
            clock.weekday(F.col("m"), offset).alias("weekday"),
        ).first()
        wanted = None if utc is None else pd.Timestamp(utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        assert (row["utc"], row["day"]) == (wanted, day), (time, text)
        if utc is not None:
            local = pd.Timestamp(utc) + pd.Timedelta(minutes=90)
            assert (row["hour"], row["weekday"]) == (local.hour, local.weekday()), (time, text)


def test_a_session_that_observes_summer_time_counts_days_as_any_other(spark):
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    adopted = spark_session(SparkConfig(), "adopted")
    # A time that New York skips, one that it has twice, and the last of a day.
    texts = ["2024-03-10 02:30:00", "2024-11-03 01:30:00", "2024-11-03 23:59:59"]
    for kind in ("string", "timestamp_ntz", "timestamp"):
        frame = adopted.createDataFrame([(text,) for text in texts], "t string").select(
            F.col("t").cast(kind).alias("t")
        )
        micros = frame.select(clock.event_micros(frame, TimeColumn(column="t"), 0, "x").alias("m"))
        found = micros.select("m", F.date_from_unix_date(clock.day_number(F.col("m"), 0)).alias("day")).collect()
        assert [(row["m"], row["day"]) for row in found] == [
            (pd.Timestamp(text).value // 1000, dt.date.fromisoformat(text[:10])) for text in texts
        ], kind


def typed_log(folder, **columns):
    """A file of two rows whose columns have the types of the arrays given."""
    moment = dt.datetime(2024, 1, 1, 5)
    plain = {
        "event_id": pa.array(["a", "b"]),
        "user_id": pa.array([1, 2]),
        "item": pa.array(["x", "y"]),
        "ts": pa.array([moment, moment], pa.timestamp("us", "UTC")),
        "click": pa.array([0, 1]),
    }
    folder.mkdir(exist_ok=True)
    old_times = pa.types.is_timestamp((plain | columns)["ts"].type) and (plain | columns)["ts"].type.unit == "ns"
    pq.write_table(pa.table(plain | columns), folder / "log.parquet", use_deprecated_int96_timestamps=old_times)
    return {"path": str(folder / "log.parquet")}


def test_columns_of_every_parquet_type_are_read_by_the_stated_rules(spark, make_config, tmp_path):
    moment = dt.datetime(2024, 1, 1, 5)
    tags = [{"name": "tags", "kind": "ids", "length": 2}]
    good = typed_log(
        tmp_path / "good",
        user_id=pa.array([2**64 - 1, 2**53 + 1], pa.uint64()),
        item=pa.array([b"\xc3\xa4", b"\xff\xfe"], pa.binary()),
        ts=pa.array([moment, moment], pa.timestamp("ns")),
        click=pa.array([Decimal("1.00"), Decimal("0.00")], pa.decimal128(5, 2)),
        event_id=pa.array([Decimal(10**30), Decimal(-7)], pa.decimal128(38, 0)),
        tags=pa.array([[b"p", None, b"q"], []], pa.list_(pa.binary())),
        price=pa.array([Decimal("0.10"), None], pa.decimal128(9, 2)),
    )
    config = make_config(natural=good, features=[*tags, {"name": "price", "kind": "number"}])
    found = ingest.look_through(spark, config.dataset, "natural")
    assert found.bad == {("item (item) is missing", START): 1}
    first, second = found.frame.orderBy("event_id", ascending=False).collect()
    assert (first["event_id"], first["user_id"], first["item_id"], first["label"]) == (
        str(10**30),
        str(2**64 - 1),
        "ä",
        1,
    )
    assert (first["tags"], first["price"], first["event_time"]) == ("p\x1fq", 0.1, moment)
    assert (second["event_id"], second["user_id"], second["item_id"], second["tags"]) == (
        "-7",
        str(2**53 + 1),
        None,
        None,
    )
    without_zone = typed_log(tmp_path / "ntz", ts=pa.array([moment, moment], pa.timestamp("us")))
    config = make_config(natural=without_zone, features=[])
    assert ingest.look_through(spark, config.dataset, "natural").rows == {START: 2}
    refusals = {
        "item": (pa.array([1.0, 2.0]), "'item' is double, expected whole numbers or text"),
        "user_id": (
            pa.array([Decimal("1.5"), Decimal(2)], pa.decimal128(5, 1)),
            r"'user_id' is decimal\(5,1\), expected",
        ),
        "event_id": (pa.array([[[1]], [[2]]]), r"'event_id' is array<array<bigint>>, expected"),
        "click": (pa.array([[0], [1]]), r"'click' is array<bigint>, expected a number"),
        "ts": (pa.array([b"1", b"2"], pa.binary()), "'ts' is binary, which cannot be read as unit 'timestamp'"),
    }
    for name, (values, words) in refusals.items():
        natural = typed_log(tmp_path / "bad", **{name: values})
        with pytest.raises(InputError, match=words):
            ingest.look_through(spark, make_config(natural=natural, features=[]).dataset, "natural")
