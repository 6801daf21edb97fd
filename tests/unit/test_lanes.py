"""The plan of rows: nothing lost or doubled, equal steps, the same global batches for every number of ranks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecdctr.data.shard_plan import FileRows, owned_lanes, plan_lanes
from ecdctr.exceptions import ConfigError, InputError

SIZES = st.lists(st.integers(0, 400), max_size=24)


def files_of(sizes) -> list[FileRows]:
    return [FileRows(f"/{place}.parquet", rows) for place, rows in enumerate(sizes)]


@settings(deadline=None)
@given(sizes=SIZES, lanes=st.integers(1, 9), batch=st.integers(1, 300), seed=st.integers(0, 9), shuffle=st.booleans())
def test_every_row_is_taken_exactly_once_in_equal_steps(sizes, lanes, batch, seed, shuffle):
    plan = plan_lanes(files_of(sizes), lanes, seed, shuffle)
    assert sorted(file.path for lane in plan.lanes for file in lane) == sorted(file.path for file in files_of(sizes))
    assert plan.rows == sum(sizes)
    assert plan.steps(batch) == -(-sum(sizes) // batch)
    at = [0] * lanes
    for step in range(plan.steps(batch)):
        ranges = plan.rows_of(step, batch)
        assert [start for start, _ in ranges] == at
        at = [stop for _, stop in ranges]
        # A lane rounds by less than one row at each end.
        assert abs(sum(stop - start for start, stop in ranges) - min(batch, plan.rows - step * batch)) < max(lanes, 1)
    assert at == list(plan.lane_rows) or plan.rows == 0


@given(lanes=st.integers(1, 20), size=st.integers(1, 20))
def test_every_lane_belongs_to_exactly_one_rank(lanes, size):
    owned = [lane for rank in range(size) for lane in owned_lanes(lanes, rank, size)]
    assert sorted(owned) == list(range(lanes))


@given(sizes=st.lists(st.integers(0, 1000), min_size=1, max_size=40), lanes=st.integers(1, 6))
def test_lanes_are_balanced_to_within_the_largest_file(sizes, lanes):
    rows = plan_lanes(files_of(sizes), lanes, 0, False).lane_rows
    assert max(rows) - min(rows) <= max(sizes)


def test_the_plan_depends_on_order_and_rows_but_not_on_names():
    sizes = [10, 20, 20, 5, 7, 20]
    renamed = [FileRows(f"/{9 - place}-other.parquet", rows) for place, rows in enumerate(sizes)]
    one, other = plan_lanes(files_of(sizes), 2, 3, True), plan_lanes(renamed, 2, 3, True)
    place = {file.path: at for at, file in enumerate([*files_of(sizes)])} | {f.path: at for at, f in enumerate(renamed)}
    assert [[place[f.path] for f in lane] for lane in one.lanes] == [
        [place[f.path] for f in lane] for lane in other.lanes
    ]


def test_without_shuffling_files_keep_their_order_and_seeds_change_it_with():
    files = files_of([100] * 40)
    plain = plan_lanes(files, 2, 0, False)
    assert all(list(lane) == sorted(lane, key=files.index) for lane in plain.lanes)
    assert plain.lanes == plan_lanes(files, 2, 1, False).lanes
    assert plan_lanes(files, 2, 0, True).lanes == plan_lanes(files, 2, 0, True).lanes
    assert plan_lanes(files, 2, 0, True).lanes != plan_lanes(files, 2, 1, True).lanes


def test_a_last_batch_of_one_row_and_fewer_files_than_lanes():
    plan = plan_lanes(files_of([5, 4]), 4, 0, False)
    assert plan.lane_rows == (5, 4, 0, 0)
    assert plan.steps(4) == 3
    assert plan.rows_of(2, 4) == ((4, 5), (3, 4), (0, 0), (0, 0))
    one = plan_lanes(files_of([9]), 1, 0, False)
    assert one.rows_of(2, 4) == ((8, 9),)


def test_no_rows_take_no_steps():
    assert plan_lanes([], 4, 0, True).steps(8) == 0
    assert plan_lanes(files_of([0, 0]), 2, 0, True).steps(8) == 0


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(InputError, match="twice"):
        plan_lanes([FileRows("/a", 1), FileRows("/a", 1)], 2, 0, False)
    with pytest.raises(InputError, match="-1 rows"):
        plan_lanes([FileRows("/a", -1)], 2, 0, False)
    with pytest.raises(ConfigError, match="lanes"):
        plan_lanes([], 0, 0, False)
    with pytest.raises(ConfigError, match="global batch"):
        plan_lanes([], 1, 0, False).steps(0)
