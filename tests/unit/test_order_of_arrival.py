"""Whatever order rows come in within the window, the plans lead to the same rows, and decide ids by days that never change.

The tables are stood in for by plain sets; what is tested is which days are taken over, left, and held to be closed.
"""

import datetime as dt
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecdctr.etl.facts import Fact
from ecdctr.etl.ingest import Ingest
from ecdctr.etl.preparation import make_plan

pytestmark = pytest.mark.unit

DAYS = 9
START = dt.date(2024, 1, 1)
DAY = dt.timedelta(days=1)
ROWS = [(number, place) for number in range(DAYS) for place in range(3)]


class Warehouse:
    """Rows by day, and what each closed day was when ids were given by it."""

    def __init__(self, window):
        self.window, self.rows, self.known = window, {}, ()
        self.done = self.closed = None
        self.decided, self.late = {}, []

    def prepare(self, files):
        facts = []
        for name, rows in files.items():
            for number in {row[0] for row in rows}:
                of_day = [row for row in rows if row[0] == number]
                digest = sum(zlib.crc32(repr(row).encode()) for row in of_day)
                facts.append(Fact(name, "s", None, START + number * DAY, len(of_day), digest, 0, {}))
        log = Ingest("natural", None, tuple(facts), frozenset())
        plan = make_plan({"natural": log}, {"natural": self.known}, done=self.done, closed=self.closed, until=None)
        every = {row for rows in files.values() for row in rows}
        for day in plan.late.get("natural", ()):
            self.late += [row for row in every if START + row[0] * DAY == day and row not in self.rows.get(day, set())]
        if plan.since is not None:
            for number in range(DAYS):
                day = START + number * DAY
                if plan.since <= day < plan.until:
                    assert self.closed is None or day >= self.closed
                    self.rows[day] = {row for row in every if row[0] == number}
            self.done, self.closed = plan.until, max(plan.until - self.window * DAY, self.closed or dt.date.min)
            for day, rows in self.rows.items():
                if day < self.closed:
                    self.decided.setdefault(day, frozenset(rows))
        self.known = log.facts


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_rows_within_the_window_end_as_in_order_and_ids_were_given_by_them(data):
    window = data.draw(st.integers(1, 4))
    delays = data.draw(st.lists(st.integers(0, window), min_size=len(ROWS), max_size=len(ROWS)))
    again = data.draw(st.lists(st.sampled_from(range(len(ROWS))), max_size=6))
    files, warehouse = {}, Warehouse(window)
    for moment in range(DAYS + window):
        rows = [row for row, delay in zip(ROWS, delays, strict=True) if row[0] + delay == moment]
        rows += [ROWS[place] for place in again if ROWS[place][0] + delays[place] + place % 3 == moment]
        if rows:
            files[f"file-{moment}"] = rows
            warehouse.prepare(files)
    assert warehouse.late == []
    assert warehouse.rows == {START + n * DAY: {row for row in ROWS if row[0] == n} for n in range(DAYS)}
    assert all(rows == warehouse.rows[day] for day, rows in warehouse.decided.items())


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_row_is_taken_over_or_put_aside_and_a_closed_day_stays_as_it_was(data):
    window = data.draw(st.integers(0, 2))
    delays = data.draw(st.lists(st.integers(0, 6), min_size=len(ROWS), max_size=len(ROWS)))
    files, warehouse = {}, Warehouse(window)
    for moment in range(DAYS + 7):
        rows = [row for row, delay in zip(ROWS, delays, strict=True) if row[0] + delay == moment]
        if rows:
            files[f"file-{moment}"] = rows
            warehouse.prepare(files)
    taken = {row for rows in warehouse.rows.values() for row in rows}
    assert taken | set(warehouse.late) == set(ROWS)
    assert taken.isdisjoint(warehouse.late)
    assert all(rows == warehouse.rows.get(day, frozenset()) for day, rows in warehouse.decided.items())
