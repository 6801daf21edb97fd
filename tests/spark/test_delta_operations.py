"""Everything that a Delta log's owner may do to it: after each step, following it tells what a look at the whole log tells."""

import datetime as dt
import logging
import random
import re
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from ecdctr.etl import facts
from ecdctr.etl.ingest import look_through
from ecdctr.exceptions import InputError
from ecdctr.lake.frames import local_frame

pytestmark = pytest.mark.spark

START = dt.date(2024, 1, 1)
SCHEMA = "event_id string, user_id bigint, item string, ts timestamp, click int"
COLUMNS = {"user": "user_id", "item": "item", "time": {"column": "ts"}, "label": "click", "event_id": ["event_id"]}


def rows(spark, days, per_day, first=0, click=None):
    """Events `first …` of some days; the same number of a day is the same event."""
    made = [
        (
            f"e{day}-{number}", number % 97, f"i{number % 31}",
            dt.datetime(2024, 1, 1, number % 24, tzinfo=dt.UTC) + dt.timedelta(days=day),
            number % 2 if click is None else click,
        )
        for day in days
        for number in range(first, first + per_day)
    ]  # fmt: skip
    return local_frame(spark, made, SCHEMA)


class Owner:
    """Does to a table what its owner may do, and keeps a plain account of what is in it: event → (day, click)."""

    def __init__(self, spark, path, feed, per_day):
        self.spark, self.path, self.per_day, self.name = spark, str(path), per_day, f"delta.`{path}`"
        self.number = 3
        writer = rows(spark, range(3), per_day).repartition(3).write.format("delta")
        writer.option("delta.enableChangeDataFeed", str(feed).lower()).partitionBy("click").save(self.path)
        self.account = self._events(range(3))

    def _events(self, days, first=0, click=None):
        return {
            f"e{day}-{number}": (day, number % 2 if click is None else click)
            for day in days
            for number in range(first, first + self.per_day)
        }

    def append(self):
        day, self.number = self.number, self.number + 1
        rows(self.spark, [day], self.per_day).write.format("delta").mode("append").save(self.path)
        self.account |= self._events([day])

    def update(self):
        self.spark.sql(f"UPDATE {self.name} SET click = 1 - click WHERE event_id LIKE 'e1-%3'")
        for event, (day, click) in list(self.account.items()):
            if event.startswith("e1-") and event.endswith("3"):
                self.account[event] = day, 1 - click

    def delete(self):
        self.spark.sql(f"DELETE FROM {self.name} WHERE event_id LIKE 'e0-%7'")
        gone = [event for event in self.account if event.startswith("e0-") and event.endswith("7")]
        for event in gone:
            del self.account[event]

    def merge(self):
        """Half of the given rows are known and change, half are new; of the known ones some are deleted."""
        given = rows(self.spark, [2], self.per_day, self.per_day // 2, click=1)
        given.createOrReplaceTempView("given")
        # Column by column: the table may have got one that the given rows lack.
        changed = ", ".join(f"t.{name} = g.{name}" for name in given.columns)
        names, values = ", ".join(given.columns), ", ".join(f"g.{name}" for name in given.columns)
        self.spark.sql(
            f"MERGE INTO {self.name} t USING given g ON t.event_id = g.event_id "
            f"WHEN MATCHED AND t.event_id LIKE '%1' THEN DELETE WHEN MATCHED THEN UPDATE SET {changed} "
            f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
        )
        for event, value in self._events([2], self.per_day // 2, 1).items():
            if event in self.account and event.endswith("1"):
                del self.account[event]
            else:
                self.account[event] = value

    def replace_day(self):
        frame = rows(self.spark, [1], self.per_day // 2 or 1, click=1)
        writer = frame.write.format("delta").mode("overwrite")
        writer.option("replaceWhere", "ts >= '2024-01-02' AND ts < '2024-01-03'").save(self.path)
        self.account = {event: value for event, value in self.account.items() if value[0] != 1}
        self.account |= {f"e1-{number}": (1, 1) for number in range(self.per_day // 2 or 1)}

    def overwrite(self):
        rows(self.spark, range(1, 3), self.per_day).write.format("delta").mode("overwrite").save(self.path)
        self.account = self._events(range(1, 3))

    def restore(self):
        """Back to the rows of the first version."""
        self.spark.sql(f"RESTORE TABLE {self.name} TO VERSION AS OF 0")
        self.account = self._events(range(3))

    def add_column(self):
        """A column that nobody reads, by way of a merged schema."""
        day, self.number = self.number, self.number + 1
        frame = rows(self.spark, [day], self.per_day).withColumn(f"extra_{day}", F.lit(1.5))
        frame.write.format("delta").mode("append").option("mergeSchema", "true").save(self.path)
        self.account |= self._events([day])

    def optimize(self):
        self.spark.sql(f"OPTIMIZE {self.name}")

    def vacuum(self):
        self.spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
        try:
            self.spark.sql(f"VACUUM {self.name} RETAIN 0 HOURS")
        finally:
            self.spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")

    def forget_the_log(self):
        """A checkpoint, and the commits before it gone, as the table's log retention does it."""
        log = self._delta_log()
        log.checkpoint()
        version = log.update(False, *[self.spark._jvm.scala.Option.empty()] * 2).version()
        for file in (Path(self.path) / "_delta_log").glob("*.json"):
            if int(file.name.split(".")[0]) < version:
                file.unlink()
        self.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()

    def _delta_log(self):
        return self.spark._jvm.org.apache.spark.sql.delta.DeltaLog.forTable(self.spark._jsparkSession, self.path)


def check(spark, dataset, owner, found):
    """What is known equals the account, and what a look at the whole log finds; named files hold the days' rows."""
    counts = {}
    for day, _ in owner.account.values():
        date = START + dt.timedelta(days=day)
        counts[date] = counts.get(date, 0) + 1
    assert {day: of_day.rows for day, of_day in found.days.items()} == counts
    anew = look_through(spark, dataset, "natural")
    assert found.days == anew.days
    files = {fact.file for fact in found.facts if fact.reason is None}
    rows_by_day = found.only(files).groupBy("event_date").agg(F.count("*").alias("n"), F.sum("label").alias("c"))
    clicks = {}
    for day, click in owner.account.values():
        date = START + dt.timedelta(days=day)
        clicks[date] = clicks.get(date, 0) + click
    assert {row["event_date"]: (row["n"], row["c"]) for row in rows_by_day.collect()} == {
        day: (counts[day], clicks[day]) for day in counts
    }


@pytest.fixture
def made(spark, make_config, tmp_path):
    def make(feed, per_day):
        owner = Owner(spark, tmp_path / "log", feed, per_day)
        natural = {"path": owner.path, "format": "delta"}
        return owner, make_config(natural=natural, columns=COLUMNS, features=[]).dataset

    return make


def walk(spark, owner, dataset, steps, every=1):
    known = look_through(spark, dataset, "natural").facts
    for place, step in enumerate(steps):
        getattr(owner, step)()
        if place % every == every - 1 or place == len(steps) - 1:
            found = look_through(spark, dataset, "natural", known)
            check(spark, dataset, owner, found)
            known = found.facts
    # The last step was checked, so what is known now is the whole log.
    return len(owner.account)


def test_merges_overwrites_and_new_columns_are_followed_by_the_feed(spark, made, monkeypatch):
    owner, dataset = made(feed=True, per_day=24)
    fed = []
    with_changes = facts.with_changes
    monkeypatch.setattr(facts, "with_changes", lambda *args: fed.append(1) or with_changes(*args))
    walk(spark, owner, dataset, ["merge", "replace_day", "add_column", "overwrite"])
    assert len(fed) >= 3


def test_a_log_that_was_forgotten_or_a_feed_begun_too_late_is_said_and_days_come_right(spark, made, caplog):
    owner, dataset = made(feed=True, per_day=12)
    known = look_through(spark, dataset, "natural").facts
    for step in ("update", "merge", "forget_the_log"):
        getattr(owner, step)()
    with caplog.at_level(logging.WARNING):
        found = look_through(spark, dataset, "natural", known)
    assert "the change data feed from version 1 on cannot be read, so files are compared" in caplog.text
    check(spark, dataset, owner, found)
    # A feed that is switched off for a while has a hole, and rows that changed in it are not lost.
    caplog.clear()
    spark.sql(f"ALTER TABLE {owner.name} SET TBLPROPERTIES (delta.enableChangeDataFeed = false)")
    owner.delete()
    spark.sql(f"ALTER TABLE {owner.name} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")
    with caplog.at_level(logging.WARNING):
        after = look_through(spark, dataset, "natural", found.facts)
    assert "so files are compared" in caplog.text
    check(spark, dataset, owner, after)


def test_a_column_that_is_read_and_renamed_or_retyped_is_named_or_read_anew(spark, made):
    owner, dataset = made(feed=True, per_day=6)
    known = look_through(spark, dataset, "natural").facts
    whole = spark.read.format("delta").load(owner.path).withColumn("user_id", F.col("user_id").cast("string"))
    whole = local_frame(spark, whole.collect(), whole.schema)
    whole.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(owner.path)
    found = look_through(spark, dataset, "natural", known)
    check(spark, dataset, owner, found)
    renamed = whole.withColumnRenamed("item", "items")
    renamed.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(owner.path)
    with pytest.raises(InputError, match=r"(?s)no column 'item'.*did you mean 'items'"):
        look_through(spark, dataset, "natural", found.facts)


def test_a_file_that_the_log_names_and_nobody_finds_is_named(spark, made):
    owner, dataset = made(feed=False, per_day=6)
    file = next(Path(owner.path).rglob("*.parquet"))
    file.unlink()
    with pytest.raises(InputError, match=re.escape(file.name) + " is damaged or missing"):
        look_through(spark, dataset, "natural")


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_all_operations_on_a_larger_table(spark, made, seed):
    chance = random.Random(seed)
    owner, dataset = made(feed=seed % 2 == 0, per_day=20_000)
    steps = ["append", "update", "delete", "merge", "replace_day", "overwrite", "restore", "add_column", "optimize"] * 2
    chance.shuffle(steps)
    # Files may go after the last version that somebody wants back, and the log with them.
    steps = [*steps, "update", "vacuum", "merge", "forget_the_log", "append", "delete"]
    rows = walk(spark, owner, dataset, steps, every=chance.choice([1, 2, 3]))
    # Whatever the order, the last day added is there, less the rows that the last deletion takes.
    assert rows >= 20_000
