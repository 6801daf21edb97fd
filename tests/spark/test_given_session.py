"""A session that a notebook hands in is made ready like one that this package starts."""

import datetime as dt
from types import SimpleNamespace

import pytest

from ecdctr.exceptions import ConfigError
from ecdctr.pipelines.workspace import Workspace

pytestmark = pytest.mark.spark


def test_a_session_of_another_time_zone_counts_days_in_utc(spark, make_config):
    given = spark.newSession()
    given.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    adopted = Workspace(make_config(), given).spark
    assert adopted is given
    assert adopted.conf.get("spark.sql.session.timeZone") == "UTC"
    # In Berlin this is half past midnight of the day after.
    late = int(dt.datetime(2024, 6, 30, 22, 30, tzinfo=dt.UTC).timestamp())
    assert adopted.sql(f"SELECT to_date(timestamp_seconds({late})) AS day").first()["day"] == dt.date(2024, 6, 30)


def test_a_session_without_delta_is_refused(make_config):
    plain = SimpleNamespace(conf={}, sparkContext=SimpleNamespace(appName="notebook"))
    with pytest.raises(ConfigError, match="the Spark session 'notebook' has no Delta Lake"):
        _ = Workspace(make_config(), plain).spark
