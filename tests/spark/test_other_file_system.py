"""On a cluster whose file system is another one, paths without a scheme are files of this machine all the same."""

import datetime as dt

import pytest

from ecdctr.etl import expiry
from ecdctr.etl.ingest import look_through
from ecdctr.etl.nanoseconds import read_parquet
from ecdctr.etl.prepare import prepare
from ecdctr.lake.frames import local_frame
from ecdctr.lake.maintenance import SMALL_FILES, compact
from ecdctr.lake.outputs import is_delta, refuse_other_content, replace_day
from ecdctr.lake.schema import TABLES
from ecdctr.lake.tables import Lake

pytestmark = pytest.mark.spark

PLACE = "my logs, 5%20"
"""A folder that would have another name if it were percent-decoded."""


@pytest.fixture
def elsewhere(spark):
    """What is not said to be a local file is looked for where nothing is."""
    settings = spark.sparkContext._jsc.hadoopConfiguration()
    before = settings.get("fs.defaultFS")
    settings.set("fs.defaultFS", "hdfs://nowhere.invalid:8020")
    try:
        with pytest.raises(Exception, match=r"nowhere\.invalid"):
            spark.read.parquet("/tmp")
        yield
    finally:
        settings.set("fs.defaultFS", before)


def write(spark, whole, folder, kind):
    """The natural log of `whole` in another form; gives the path to read it by."""
    frame = whole.frames["natural"]
    if kind == "delta":
        read_parquet(spark, f"file://{whole.config.dataset.natural.path}").write.format("delta").save(
            f"file://{folder}"
        )
        return str(folder)
    folder.mkdir(parents=True)
    for name, rows in (("a 1%", frame[:70]), ("b", frame[70:])):
        if kind == "csv":
            rows.to_csv(folder / f"{name}.csv", index=False)
        else:
            rows.to_parquet(folder / f"{name}.parquet", coerce_timestamps="us", index=False)
    return str(folder / "*.csv") if kind == "csv" else str(folder)


@pytest.mark.parametrize("kind", ["parquet", "csv", "delta"])
def test_logs_and_tables_without_a_scheme_are_local(spark, whole, make_config, tmp_path, elsewhere, kind):
    path = write(spark, whole, tmp_path / PLACE / "natural", kind)
    config = make_config(natural={"path": path, "format": kind}, ads={"path": whole.config.dataset.ads.path})
    prepare(spark, config, None)
    lake = Lake(spark, config.warehouse_dir)
    for table in ("natural_samples", "ad_samples"):
        assert sorted(map(str, lake.read(table).collect())) == sorted(map(str, whole.lake.read(table).collect()))
    # Files have the names that they had for earlier preparations, and are known by them.
    found = look_through(spark, config.dataset, "natural")
    assert {fact.file for fact in found.facts} == found.files
    assert all(file.startswith("file:/") and not file.startswith("file://") for file in found.files)
    assert look_through(spark, config.dataset, "natural", found.facts).fresh == frozenset()


def test_outputs_and_what_is_written_together_are_local(spark, tmp_path, elsewhere):
    day, spec = dt.date(2024, 1, 1), TABLES["predictions"]
    schema = ", ".join(f"`{column.name}` {column.type}" for column in spec.columns)
    row = local_frame(spark, [("e", day, "u", 1, 0.5, "v", "ecdctr", 1)], schema)
    lake = Lake(spark, tmp_path / PLACE)
    for _ in range(SMALL_FILES):
        lake.append("predictions", row)
    assert compact(lake, "predictions") == SMALL_FILES - 1
    assert lake.read("predictions").count() == SMALL_FILES
    path = str(tmp_path / PLACE / "scores")
    for _ in range(2):
        refuse_other_content(spark, path, spec)
        assert replace_day(spark, path, spec, row, day) == 1
    assert is_delta(spark, path)
    assert (tmp_path / PLACE / "scores" / "_delta_log").is_dir()


def test_lists_of_expired_ids_are_local(spark, make_config, tmp_path, monkeypatch, elsewhere):
    rows = local_frame(spark, [("item_id", 3)], "field string, id bigint")
    monkeypatch.setattr(expiry, "expired_ids", lambda *_: rows)
    root = tmp_path / PLACE
    found = expiry.write_expired(Lake(spark, root), make_config(), dt.date(2024, 1, 1), root)
    assert [file.suffix for file in (found.folder / "field=item_id").glob("[!.]*")] == [".parquet"]
