"""A disk that is full at any point of a table's commit: the version before stays, and the same commit lands when there is room."""

import datetime as dt
import os

import pytest

from ecdctr.exceptions import TemporaryError
from ecdctr.lake.frames import local_frame
from ecdctr.lake.schema import TABLES
from ecdctr.lake.tables import Lake
from tests.small_disk import small_disk  # noqa: F401 - a fixture

pytestmark = pytest.mark.spark

PAGE = os.sysconf("SC_PAGE_SIZE")
COLUMNS = ", ".join(f"`{column.name}` {column.type}" for column in TABLES["data_quality"].columns)
ROWS = 400


def outcomes(spark, batch):
    now = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    rows = [("ad", now.date(), f"{batch}", f"{batch}-{place}", place / 7, None, 1, "ok", now) for place in range(ROWS)]
    return local_frame(spark, rows, COLUMNS).coalesce(1)


def test_a_full_disk_leaves_the_version_before_and_the_commit_lands_when_there_is_room(spark, small_disk):  # noqa: F811
    lake = Lake(spark, small_disk.root)
    lake.append("data_quality", outcomes(spark, 0), ("test", 0))
    version, kept = lake.version("data_quality"), sorted(lake.read("data_quality").collect())
    failures = []
    # More room each time: what fails is the rows' file, then what ends it, then the log's entry.
    for pages in range(100):
        small_disk.leave(pages * PAGE)
        try:
            lake.append("data_quality", outcomes(spark, 1), ("test", 1))
            break
        except TemporaryError as error:
            failures.append(error)
        assert lake.version("data_quality") == version
        assert lake.pin("data_quality").rows == ROWS
        assert sorted(lake.read("data_quality").collect()) == kept
    assert len(failures) > 3
    assert all("no space" in str(error) and "data_quality" in str(error) for error in failures)
    assert lake.version("data_quality") == version + 1
    assert lake.read("data_quality").count() == lake.pin("data_quality").rows == 2 * ROWS
    # Nothing of the attempts that failed is part of the table; a repetition of the one that did not changes nothing.
    lake.append("data_quality", outcomes(spark, 1), ("test", 1))
    assert lake.version("data_quality") == version + 1
