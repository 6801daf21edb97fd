"""Times in nanoseconds: what pandas writes by default."""

import datetime as dt

import pandas as pd
import pytest
from pyspark.sql import functions as F

from ecdctr.etl.source import read_files

pytestmark = pytest.mark.spark

TEXTS = ["2024-02-03 04:05:06.123456789", "1969-12-31 23:59:59.999999999", "2262-04-11 23:47:16.854775807"]


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Shanghai"])
def test_nanoseconds_are_cut_to_the_microsecond_and_numbers_stay_numbers(spark, tmp_path, zone):
    times = pd.to_datetime(pd.Series([*TEXTS, None])).dt.tz_localize("UTC")
    written = times.dt.tz_localize(None) if zone is None else times.dt.tz_convert(zone)
    frame = pd.DataFrame({"the time": written, "number": [2**53 + 1, -1, 0, 5]})
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    read = read_files(spark, str(tmp_path), "parquet", "dataset.ads")
    assert [kind for _, kind in read.dtypes] == ["timestamp", "bigint"]
    rows = read.select(F.unix_micros("the time").alias("micros"), "number").orderBy("number").collect()
    micros = {row.number: row.micros for row in rows}
    epoch = pd.Timestamp(0, tz="UTC")
    expected = [None if pd.isna(time) else (time - epoch) // dt.timedelta(microseconds=1) for time in times]
    assert [micros[number] for number in frame["number"]] == expected
