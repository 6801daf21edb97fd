"""Clocks of writers may be wrong: the order of commits decides what the ledger says, not their time stamps."""

import datetime as dt

import pytest

from ecdctr.lake.ledger import Ledger
from ecdctr.lake.schema import TABLES
from ecdctr.lake.tables import Lake
from tests.unit.hand_made_tables import write_table

pytestmark = pytest.mark.unit

KINDS = {"int": "integer", "bigint": "long"}
FIELDS = {column.name: KINDS.get(column.type, column.type) for column in TABLES["ledger"].columns}


def row(seq, at, version, alias=None):
    named: dict[str, object] = dict.fromkeys(FIELDS)
    named |= {
        "seq": seq, "kind": "version" if alias is None else "alias", "version": version, "alias": alias,
        "committed_at": at, "writer": f"w{seq}", "parents": [], "tables": {"ad_samples": 1}, "level": "actr", "arm": "a",
        "date": dt.date(2024, 1, seq), "metrics_json": "{}",
    }  # fmt: skip
    return list(named.values())


def test_of_two_writers_the_later_commit_counts_though_its_clock_is_a_year_behind(tmp_path):
    now = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
    behind = now - dt.timedelta(days=365)
    summer = now.astimezone(dt.timezone(dt.timedelta(hours=2)))
    # As files may lie: the place in the order of commits is the row's own.
    rows = [
        row(4, behind, "second", "serving"),
        row(1, summer, "first"),
        row(3, now, "first", "serving"),
        row(2, behind, "second"),
    ]
    write_table(tmp_path, "ledger", FIELDS, [rows])
    ledger = Ledger(Lake(lambda: pytest.fail("no Spark is needed"), tmp_path))
    assert [entry.version for entry in ledger.versions()] == ["first", "second"]
    assert ledger.alias("serving") == "second"
    assert ledger.versions()[0].committed_at == now
