"""Tables as small frames, against tables written by hand; no Spark is started."""

import datetime as dt
from types import SimpleNamespace

import pytest

from ecdctr.exceptions import InputError, NotReadyError
from ecdctr.lake.tables import Lake
from ecdctr.pipelines.explore import (
    click_rates,
    quality_frame,
    quarantine_reasons,
    table_frame,
    table_versions,
    vocabulary_growth,
)
from tests.unit.hand_made_tables import write_table

pytestmark = pytest.mark.unit


def day(number):
    return dt.date(2024, 3, number)


IMPRESSIONS = {"event_id": "string", "event_date": "date", "label": "integer"}


@pytest.fixture
def workspace(tmp_path):
    def no_spark():
        raise AssertionError("Spark was asked for")

    ads = [[["a", day(1), 1], ["b", day(1), 0], ["c", day(2), 0]], [["d", day(2), 1], ["e", day(2), 0]]]
    write_table(tmp_path, "ad_impressions", IMPRESSIONS, ads, "event_date")
    write_table(tmp_path, "natural_impressions", IMPRESSIONS, [[["n", day(1), 0]]], "event_date")
    tokens = [["user", "u1", day(1)], ["user", "u2", day(2)], ["item", "i1", day(2)], ["user", "u3", day(4)]]
    fields = {"field": "string", "token": "string", "admitted": "date"}
    write_table(tmp_path, "vocabulary", fields, [tokens], "field")
    aside = [["ad", "late", day(1)], ["ad", "late", day(1)], ["natural", "user is missing", None]]
    fields = {"domain": "string", "reason": "string", "event_date": "date"}
    write_table(tmp_path, "quarantine", fields, [aside])
    return SimpleNamespace(lake=Lake(no_spark, tmp_path))


def test_versions_say_when_and_what(workspace):
    found = table_versions(workspace, "ad_impressions")
    assert [(row["version"], row["operation"], row["rows_added"], row["files_added"]) for row in found] == [
        (0, "WRITE", 3, 2), (1, "WRITE", 2, 1),
    ]  # fmt: skip
    assert found[1]["committed"] == dt.datetime(2024, 4, 2, tzinfo=dt.UTC)
    with pytest.raises(NotReadyError, match="no Delta table"):
        table_versions(workspace, "ad_samples")


def test_a_frame_has_the_rows_of_its_version_and_the_columns_asked_for(workspace):
    newest = table_frame(workspace, "ad_impressions", ["event_date", "event_id"])
    assert sorted(map(tuple, newest.to_numpy().tolist())) == [
        (day(1), "a"), (day(1), "b"), (day(2), "c"), (day(2), "d"), (day(2), "e"),
    ]  # fmt: skip
    assert sorted(table_frame(workspace, "ad_impressions", version=0)["event_id"]) == ["a", "b", "c"]
    assert list(table_frame(workspace, "ad_impressions").columns) == list(IMPRESSIONS)
    with pytest.raises(InputError, match="no column clicks"):
        table_frame(workspace, "ad_impressions", ["clicks"])


def test_click_rates_are_those_of_the_days(workspace):
    found = click_rates(workspace)
    assert found.to_numpy().tolist() == [
        ["natural", day(1), 1, 0, 0.0], ["ad", day(1), 2, 1, 0.5], ["ad", day(2), 3, 1, pytest.approx(1 / 3)],
    ]  # fmt: skip


def test_vocabularies_grow_day_by_day(workspace):
    found = vocabulary_growth(workspace)
    assert found["user"].to_dict() == {day(1): 1, day(2): 2, day(4): 3}
    assert found["item"].to_dict() == {day(1): 0, day(2): 1, day(4): 1}


def test_rows_put_aside_are_counted_by_reason(workspace, tmp_path):
    found = quarantine_reasons(workspace)
    assert found[["domain", "reason", "rows"]].to_numpy().tolist() == [
        ["ad", "late", 2], ["natural", "user is missing", 1],
    ]  # fmt: skip
    empty = quarantine_reasons(SimpleNamespace(lake=Lake(workspace.lake._spark, tmp_path / "other")))
    assert list(empty.columns) == list(found.columns)
    assert empty.empty


def test_checks_as_a_frame():
    days = [{"date": day(1), "value": 2.0, "expected": None, "outcome": "no_history"}]
    found = quality_frame([{"domain": "ad", "check": "volume", "subject": "", "days": days}])
    assert found.to_numpy().tolist() == [["ad", "volume", "", day(1), 2.0, None, "no_history"]]
    assert quality_frame([]).empty
