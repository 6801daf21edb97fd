"""A Delta log is followed by what its own log says: files that came, rows that changed, and what is lost of the past."""

import datetime as dt
import logging

import pytest
from pyspark.sql import functions as F

from ecdctr.etl import facts, ingest
from ecdctr.etl.delta_source import DeltaSource
from ecdctr.etl.ingest import look_through
from ecdctr.lake.frames import local_frame

pytestmark = pytest.mark.spark

START = dt.date(2024, 1, 1)
SCHEMA = "event_id string, user_id bigint, item string, ts timestamp, click int"


def rows(spark, days, per_day=6):
    made = []
    for day in days:
        at = dt.datetime(2024, 1, 1, 6, tzinfo=dt.UTC) + dt.timedelta(days=day)
        made += [(f"e{day}-{n}", n, f"i{n}", at, n % 2) for n in range(per_day)]
    return local_frame(spark, made, SCHEMA).repartition(2)


@pytest.fixture
def table(spark, make_config, tmp_path):
    """A log of three days, its dataset, and a function that looks through it and tells what was opened for that."""

    def make(feed):
        path = tmp_path / "raw log" / "ä"
        writer = rows(spark, range(3)).write.format("delta").option("delta.enableChangeDataFeed", str(feed).lower())
        writer.save(str(path))
        columns = {
            "user": "user_id",
            "item": "item",
            "time": {"column": "ts"},
            "label": "click",
            "event_id": ["event_id"],
        }
        natural = {"path": str(path), "format": "delta"}
        return path, make_config(natural=natural, columns=columns, features=[]).dataset

    return make


def days(found):
    return {(day - START).days: day_found.rows for day, day_found in found.days.items()}


def assert_like_anew(spark, dataset, found):
    """All that is known by following is what a look at the whole log finds, and only named files are opened for a day."""
    anew = look_through(spark, dataset, "natural")
    assert found.days == anew.days
    for day in anew.days:
        files = {fact.file for fact in found.facts if fact.event_date == day}
        of_day = found.only(files).where(F.col("event_date") == F.lit(day))
        assert of_day.count() == anew.rows[day]


def test_appended_updated_and_deleted_rows_are_read_from_the_feed_and_lost_feeds_are_named(
    spark, table, monkeypatch, caplog
):
    path, dataset = table(feed=True)
    delta = f"delta.`{path}`"
    first = look_through(spark, dataset, "natural")
    assert days(first) == {0: 6, 1: 6, 2: 6}
    monkeypatch.setattr(facts, "facts_of", lambda *args: pytest.fail("an unchanged table is not read"))
    assert look_through(spark, dataset, "natural", first.facts).facts == first.facts
    monkeypatch.undo()

    rows(spark, [3]).write.format("delta").mode("append").save(str(path))
    appended = look_through(spark, dataset, "natural", first.facts)
    assert facts.CHANGES not in appended.fresh
    assert appended.fresh == appended.files - first.files
    assert_like_anew(spark, dataset, appended)

    spark.sql(f"UPDATE {delta} SET click = 1 - click WHERE event_id = 'e1-2'")
    spark.sql(f"DELETE FROM {delta} WHERE event_id IN ('e2-0', 'e3-1')")
    read = []
    whole = DeltaSource.rows
    monkeypatch.setattr(DeltaSource, "rows", lambda self, files=None: read.append(files) or whole(self, files))
    changed = look_through(spark, dataset, "natural", appended.facts)
    assert (changed.fresh, [files for files in read if files is not None]) == ({facts.CHANGES}, [])
    monkeypatch.undo()
    assert days(changed) == {0: 6, 1: 6, 2: 5, 3: 5}
    assert {day for day, found in changed.days.items() if found != appended.days[day]} == {
        START + dt.timedelta(days=place) for place in (1, 2, 3)
    }
    assert_like_anew(spark, dataset, changed)

    spark.sql(f"OPTIMIZE {delta}")
    compacted = look_through(spark, dataset, "natural", changed.facts)
    assert compacted.days == changed.days

    spark.sql(f"DELETE FROM {delta} WHERE event_id = 'e0-0'")
    spark.sql(f"DELETE FROM {delta} WHERE event_id = 'e0-1'")
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    try:
        spark.sql(f"VACUUM {delta} RETAIN 0 HOURS")
    finally:
        spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")
    with caplog.at_level(logging.WARNING):
        after = look_through(spark, dataset, "natural", compacted.facts)
    assert "change data feed from version" in caplog.text
    assert days(after) == {0: 4, 1: 6, 2: 5, 3: 5}
    assert facts.CHANGES not in {fact.file for fact in after.facts}
    assert_like_anew(spark, dataset, after)


def test_without_a_feed_the_files_of_both_versions_are_compared(spark, table):
    path, dataset = table(feed=False)
    first = look_through(spark, dataset, "natural")
    spark.sql(f"UPDATE delta.`{path}` SET item = 'other' WHERE event_id = 'e1-2'")
    second = look_through(spark, dataset, "natural", first.facts)
    assert second.fresh == second.files - first.files
    assert len(second.fresh) == 1
    assert {day for day in second.days if second.days[day] != first.days[day]} == {START + dt.timedelta(days=1)}
    assert_like_anew(spark, dataset, second)
    spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.enableDeletionVectors = true)")
    spark.sql(f"DELETE FROM delta.`{path}` WHERE event_id = 'e0-0'")
    third = look_through(spark, dataset, "natural", second.facts)
    assert days(third)[0] == 5
    assert_like_anew(spark, dataset, third)
    # A table that was made anew in the same place is another one, though its versions count alike.
    rows(spark, range(2)).write.format("delta").mode("overwrite").save(str(path))
    anew = look_through(spark, dataset, "natural", third.facts)
    assert days(anew) == {0: 6, 1: 6}


def test_a_log_whose_rows_are_all_of_the_other_domain_in_some_files_is_not_read_again(spark, table):
    _, dataset = table(feed=False)
    natural = dataset.natural.model_copy(update={"where": f"date(ts) = '{START}'"})
    dataset = dataset.model_copy(update={"natural": natural})
    first = look_through(spark, dataset, "natural")
    assert days(first) == {0: 6}
    assert not look_through(spark, dataset, "natural", first.facts).fresh


def test_ingest_of_parquet_remembers_files_without_rows_of_its_domain(spark, table, tmp_path):
    _, dataset = table(feed=False)
    for day in range(2):
        rows(spark, [day]).coalesce(1).write.mode("append").parquet(str(tmp_path / "plain"))
    update = {"path": str(tmp_path / "plain"), "format": "parquet", "where": f"date(ts) = '{START}'"}
    dataset = dataset.model_copy(update={"natural": dataset.natural.model_copy(update=update)})
    first = look_through(spark, dataset, "natural")
    assert len({fact.file for fact in first.facts}) == 2
    assert ingest.look_through(spark, dataset, "natural", first.facts).fresh == frozenset()
