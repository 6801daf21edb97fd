"""Lists of expired ids: they stay while somebody asks for them, and are written anew where they are gone."""

import datetime as dt
import os
import time

import pyarrow.parquet as pq
import pytest

from ecdctr.etl import expiry
from ecdctr.etl.expiry import KEPT_SECONDS, write_expired
from ecdctr.lake.frames import local_frame
from ecdctr.pipelines.workspace import Workspace

pytestmark = pytest.mark.spark

DATE = dt.date(2024, 1, 5)
IDS = {"item_id": [3, 9, 4], "user_id": [7]}


@pytest.fixture
def opened(spark, tmp_path, make_config, monkeypatch):
    """A workspace in which some ids have expired, whatever the day."""
    rows = [(field, number) for field, ids in IDS.items() for number in ids]
    monkeypatch.setattr(expiry, "expired_ids", lambda *_: local_frame(spark, rows, "field string, id bigint"))
    with Workspace(make_config(), spark) as workspace:
        yield workspace


def listed(found):
    return {
        field: sorted(
            number
            for file in (found.folder / f"field={field}").glob("*.parquet")
            for number in pq.ParquetFile(file).read()["id"].to_pylist()
        )
        for field in found.counts
    }


WANTED = {field: sorted(ids) for field, ids in IDS.items()}


def age(found):
    moment = time.time() - KEPT_SECONDS - 60
    os.utime(found.folder, (moment, moment))


def test_a_list_in_use_stays_however_old_it_is_and_one_that_nobody_asks_for_goes(opened):
    used, forgotten = opened.expired(DATE), opened.expired(DATE + dt.timedelta(days=1))
    assert used.counts == {"item_id": 3, "user_id": 1}
    age(used)
    age(forgotten)
    assert opened.expired(DATE) == used
    # Another job, which asks for the list itself, keeps it as well.
    other = write_expired(opened.lake, opened.config, DATE + dt.timedelta(days=2), opened.root)
    assert not forgotten.folder.exists()
    assert listed(used) == listed(other) == WANTED
    age(used)
    assert write_expired(opened.lake, opened.config, DATE, opened.root) == used
    assert time.time() - used.folder.stat().st_mtime < 3600
    assert listed(used) == WANTED
    assert sorted(used.folder.parent.iterdir()) == sorted([used.folder, other.folder])


def test_a_list_that_was_removed_though_it_is_remembered_is_written_anew(opened):
    found = opened.expired(DATE)
    age(found)
    write_expired(opened.lake, opened.config, DATE + dt.timedelta(days=1), opened.root)
    assert not found.folder.exists()
    assert opened.expired(DATE) == found
    assert listed(found) == WANTED
