"""Rows to score, encoded like the samples of their day, whether or not the tables know that day; and the table they go to."""

import datetime as dt

import pandas as pd
import pytest
from pyspark.sql import functions as F

from ecdctr.etl.requests import encode_requests, read_requests
from ecdctr.exceptions import InputError, NotReadyError
from ecdctr.features.feature_set import feature_set
from ecdctr.lake.leases import Lease, leased
from ecdctr.lake.outputs import refuse_other_content, replace_day
from ecdctr.lake.pinned import PinnedLake
from ecdctr.lake.schema import SCORES, TableSpec
from ecdctr.lake.tables import Lake

pytestmark = pytest.mark.spark

DAY = dt.date(2024, 1, 4)


class UntilYesterday(Lake):
    """The tables as they are before anything of the day is prepared."""

    def read(self, name, version=None):
        frame = super().read(name, version)
        return frame.where(F.col("admitted" if name == "vocabulary" else "event_date") < F.lit(DAY))


@pytest.fixture(scope="module")
def unlabelled(whole, tmp_path_factory):
    """The ads' log as CSV, without what is to be predicted."""
    path = tmp_path_factory.mktemp("given") / "ads.csv"
    whole.frames["ad"].drop(columns="click").to_csv(path, index=False)
    return path


def encoded(spark, whole, path, lake) -> pd.DataFrame:
    features = feature_set(whole.config.dataset.features, {"item_id": 2})
    rows = read_requests(spark, whole.config, str(path), DAY)
    found = encode_requests(lake, whole.config, features, rows, DAY).toPandas().set_index("event_id").sort_index()
    assert {"_item", "user", "day", *features.columns} <= set(found.columns)
    return found[["user", "_item", "day", *features.columns]]


def test_rows_are_encoded_as_the_samples_of_their_day(spark, whole, unlabelled):
    found = encoded(spark, whole, unlabelled, whole.lake)
    samples = whole.lake.read("ad_samples").where(F.col("event_date") == F.lit(DAY)).toPandas()
    samples = samples.set_index("event_id").sort_index()
    raw = whole.frames["ad"].set_index("event_id")
    assert found["_item"].tolist() == raw["item"][found.index].tolist()
    assert found.index.tolist() == samples.index.tolist()
    for name in found.columns.drop("_item"):
        assert found[name].map(str).tolist() == samples[name].map(str).tolist(), name

    before = encoded(spark, whole, unlabelled, UntilYesterday(spark, whole.lake.root))
    for name in ("position", "price", "hour", "weekday"):
        assert before[name].tolist() == samples[name].tolist()
    # Nobody has clicked an ad on the day itself, as far as these tables know.
    log = whole.frames["ad"]
    today = set(log[(log["ts"].dt.date == DAY) & (log["click"] == 1)]["user_id"].map(str))
    quiet = [event for event in found.index if found["user"][event] not in today]
    assert quiet
    assert before["clicked_ads"][quiet].map(str).tolist() == found["clicked_ads"][quiet].map(str).tolist()


@pytest.mark.parametrize(
    ("change", "day", "kind", "said"),
    [
        (lambda log: log.drop(columns="price"), DAY, InputError, "--input has no column 'price'"),
        (lambda log: log.assign(user_id=None), DAY, InputError, "--input: 10 rows: user"),
        (lambda log: log, DAY + dt.timedelta(days=1), NotReadyError, "no good row of 2024-01-05; found 2024-01-01"),
        (None, DAY, InputError, "does not exist"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_the_name_that_the_caller_gave(
    spark, whole, unlabelled, tmp_path, change, day, kind, said
):
    path = tmp_path / "rows.csv"
    if change is not None:
        change(pd.read_csv(unlabelled)).to_csv(path, index=False)
    with pytest.raises(kind) as found:
        read_requests(spark, whole.config, str(path), day)
    assert said in found.value.message
    assert found.value.hint


def test_a_day_is_replaced_as_a_whole_and_nothing_else_is_written_over(spark, tmp_path):
    path = str(tmp_path / "scores")

    def rows(day, *probabilities):
        given = [(f"e{at}", day, "u", "i", value, "v") for at, value in enumerate(probabilities)]
        return spark.createDataFrame(given, [column.name for column in SCORES.columns])

    refuse_other_content(spark, path, SCORES)
    assert replace_day(spark, path, SCORES, rows(DAY, 0.1, 0.2, 0.3), DAY) == 3
    other = DAY + dt.timedelta(days=1)
    assert replace_day(spark, path, SCORES, rows(other, 0.4), other) == 1
    assert replace_day(spark, path, SCORES, rows(DAY, 0.5, 0.6), DAY) == 2
    refuse_other_content(spark, path, SCORES)
    with pytest.raises(Exception, match=r"probability_is_one|CHECK"):
        replace_day(spark, path, SCORES, rows(DAY, 0.5, 1.5), DAY)
    stored = spark.read.format("delta").load(path).orderBy("probability").collect()
    assert [row["probability"] for row in stored] == [0.4, 0.5, 0.6]
    (tmp_path / "mine").mkdir()
    refuse_other_content(spark, str(tmp_path / "mine"), SCORES)
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for there, said in ((tmp_path / "mine", "is no Delta table"), (tmp_path / "mine" / "letter.txt", "is no Delta")):
        with pytest.raises(InputError, match=said):
            refuse_other_content(spark, str(there), SCORES)
    with pytest.raises(InputError, match=r"has columns event_id.*expected event_id"):
        refuse_other_content(spark, path, TableSpec("other", "", SCORES.columns[:1]))


def test_a_pinned_warehouse_stays_as_it_was_and_its_versions_are_leased(spark, tmp_path):
    lake, lease = Lake(spark, tmp_path), Lease(tmp_path)
    row = ("user", 7, [0.5], "v1")
    frame = spark.createDataFrame([row], "entity string, id bigint, vector array<float>, model_version string")
    pinned = PinnedLake(lake, lease)
    version = lake.append("serving_embeddings", frame)
    assert pinned.read("serving_embeddings").count() == 1
    lake.append("serving_embeddings", frame)
    assert pinned.read("serving_embeddings").count() == 1
    assert lake.read("serving_embeddings").count() == 2
    assert leased(tmp_path) == {"serving_embeddings": {version}}
    lease.release()
