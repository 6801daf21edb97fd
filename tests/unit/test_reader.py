"""Batches out of Parquet files: every row once, in the plan's order, whatever ranks, steps and files."""

import threading
import time
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ecdctr.data.batch import Batch
from ecdctr.data.footers import by_row_groups, check_files, read_footers
from ecdctr.data.reader import AHEAD, iterate, reading_order
from ecdctr.data.rows import to_rows
from ecdctr.data.shard_plan import FileRows, plan_lanes
from ecdctr.distributed.single import SingleProcess
from ecdctr.exceptions import InputError
from ecdctr.features.feature_set import FeatureSet
from ecdctr.training.prior import click_log_odds
from ecdctr.training.task import Files

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id"),
    number_fields=("price",),
    sequence_fields={"clicks": 3},
    vocabulary_of={"user_id": "user_id", "item_id": "item_id", "clicks": "item_id"},
    fixed_rows={},
    oov_buckets={"user_id": 1, "item_id": 1},
    attention={"clicks": "item_id"},
)
HUGE = 2**53 + 1


def table_of(first: int, rows: int) -> pa.Table:
    """Rows that tell their own number in every column."""
    number = np.arange(first, first + rows)
    clicks = pa.ListArray.from_arrays(np.arange(rows + 1) * 3, pa.array(np.repeat(number, 3)))
    return pa.table(
        {
            "event_id": [f"e{at}" for at in number],
            "user": [f"u{at}" for at in number],
            "day": pa.array(number % 5, pa.int32()),
            "label": pa.array(number % 2, pa.float32()),
            "weight": pa.array(np.ones(rows), pa.float32()),
            "user_id": pa.array(number + HUGE),
            "item_id": pa.array(number),
            "price": pa.array(number / 2, pa.float32()),
            "clicks": clicks,
        }
    )


def write(folder, sizes, row_group=1 << 20) -> list[FileRows]:
    files, first = [], 0
    for place, rows in enumerate(sizes):
        # Names in the opposite of reading order, so that a sorted list would show.
        path = folder / f"{100 - place}.parquet"
        pq.write_table(table_of(first, rows), path, row_group_size=row_group)
        files.append(FileRows(str(path), rows))
        first += rows
    return files


def numbers_of(batch: Batch) -> list[int]:
    number = batch.ids[:, 1]
    assert batch.ids[:, 0].tolist() == [at + HUGE for at in number.tolist()]
    assert torch.equal(batch.sequences["clicks"], number[:, None].expand_as(batch.sequences["clicks"]))
    assert torch.equal(batch.numbers[:, 0], number / 2)
    assert torch.equal(batch.day, number % 5)
    assert torch.equal(batch.label, (number % 2).float())
    return number.tolist()


@pytest.mark.parametrize("shuffle", [False, True])
def test_ranks_share_the_global_batches_of_one_rank(tmp_path, shuffle):
    plan = plan_lanes(write(tmp_path, [30, 0, 7, 23, 41, 1], row_group=16), 4, 5, shuffle)

    def global_batches(size: int) -> list[list[int]]:
        per_rank = [list(iterate(plan, rank, size, FEATURES, 16)) for rank in range(size)]
        assert {len(batches) for batches in per_rank} == {plan.steps(16)}
        return [sorted(n for batch in step for n in numbers_of(batch)) for step in zip(*per_rank, strict=True)]

    one = global_batches(1)
    assert sorted(number for batch in one for number in batch) == list(range(102))
    assert all(global_batches(size) == one for size in (2, 4))


def test_more_ranks_than_lanes_with_rows_get_empty_batches(tmp_path):
    plan = plan_lanes(write(tmp_path, [5]), 4, 0, False)
    batches = list(iterate(plan, 3, 4, FEATURES, 2, names=True))
    assert [len(batch) for batch in batches] == [0, 0, 0]
    assert batches[0].ids.shape == (0, 2)
    assert batches[0].sequences["clicks"].shape == (0, 1)
    assert batches[0].event_id == []


def test_padding_is_cut_where_the_longest_list_of_a_batch_ends_alike_for_its_attributes(tmp_path):
    features = replace(
        FEATURES,
        sequence_fields={"clicks": 5, "hour": 5, "tags": 4},
        vocabulary_of=FEATURES.vocabulary_of | {"hour": "hour", "tags": "tag"},
        aligned={"hour": "clicks"},
    )
    lists = {
        "clicks": [[7, 0, 0, 0, 0], [7, 8, 0, 0, 0], [0] * 5, [0] * 5],
        "hour": [[1, 2, 0, 0, 0], [1, 2, 3, 0, 0], [0] * 5, [0] * 5],
        "tags": [[0] * 4, [9, 9, 9, 9], [0] * 4, [5, 0, 0, 0]],
    }
    table = table_of(0, 4)
    for name, values in lists.items():
        table = table.drop_columns(name) if name in table.column_names else table
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, tmp_path / "a.parquet")
    plan = plan_lanes([FileRows(str(tmp_path / "a.parquet"), 4)], 1, 0, False)
    batches = list(iterate(plan, 0, 1, features, 2))
    widths = [{name: ids.shape[1] for name, ids in batch.sequences.items()} for batch in batches]
    assert widths == [{"clicks": 3, "hour": 3, "tags": 4}, {"clicks": 1, "hour": 1, "tags": 1}]
    for name, values in lists.items():
        for at, batch in enumerate(batches):
            expected = torch.tensor(values)[2 * at : 2 * at + 2, : widths[at][name]]
            assert torch.equal(batch.sequences[name], expected)


def test_files_are_read_in_the_plans_order_and_row_groups_in_the_files(tmp_path):
    plan = plan_lanes(write(tmp_path, [9, 9, 9], row_group=4), 1, 0, False)
    read = [n for batch in iterate(plan, 0, 1, FEATURES, 5) for n in numbers_of(batch)]
    assert read == list(range(27))


def test_shuffled_rows_are_seeded_and_stay_in_their_row_group(tmp_path):
    files = write(tmp_path, [64, 64])

    def read(seed: int) -> list[int]:
        return [n for b in iterate(plan_lanes(files, 1, seed, True), 0, 1, FEATURES, 10) for n in numbers_of(b)]

    assert read(1) == read(1)
    assert read(1) != read(2)
    assert {number // 64 for number in read(1)[:64]} in ({0}, {1})
    assert read(1)[:64] != sorted(read(1)[:64])


def test_row_groups_are_shuffled_across_the_files_of_a_lane(tmp_path):
    files = write(tmp_path, [40, 40, 40], row_group=10)

    def read(seed: int) -> list[int]:
        plan = plan_lanes(files, 1, seed, True)
        groups = check_files(files, ["label"])
        order = [(part.number, part.group) for part in reading_order(plan, 0, groups)]
        assert sorted(order) == [(file, group) for file in range(3) for group in range(4)]
        rows = [n for b in iterate(plan, 0, 1, FEATURES, 7) for n in numbers_of(b)]
        assert sorted(rows) == list(range(120))
        # Ten rows at a time, each time those of one row group, in no order of theirs.
        assert all(len({n // 10 for n in rows[at : at + 10]}) == 1 for at in range(0, 120, 10))
        return rows

    first = read(1)
    assert first == read(1) != read(2)
    # Files take turns, where once one was read after the other.
    assert len({number // 40 for number in first[:40]}) > 1


@pytest.mark.parametrize("start", [0, 1, 4])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_large_row_group_is_decoded_in_buffers_of_which_each_is_shuffled(tmp_path, monkeypatch, shuffle, start):
    monkeypatch.setattr("ecdctr.data.row_groups.BUFFER_ROWS", 16)
    plan = plan_lanes(write(tmp_path, [50, 37]), 1, 3, shuffle)
    whole = [numbers_of(batch) for batch in iterate(plan, 0, 1, FEATURES, 10)]
    assert [numbers_of(batch) for batch in iterate(plan, 0, 1, FEATURES, 10, start_step=start)] == whole[start:]
    rows = [number for batch in whole for number in batch]
    assert sorted(rows) == list(range(87))
    assert (rows == list(range(87))) != shuffle
    of_first = [number for number in rows if number < 50]
    assert all(sorted(of_first[at : at + 16]) == list(range(at, min(at + 16, 50))) for at in range(0, 50, 16))


def test_ids_wait_in_32_bits_where_they_fit(tmp_path):
    table = table_of(0, 5)
    file = FileRows("x", 5)
    wide = to_rows(table, file, FEATURES, False, None)
    assert (wide.ids.dtype, wide.sequences["clicks"].dtype) == (np.int64, np.int32)
    least = np.iinfo(np.int32)
    fitting = table.set_column(
        table.column_names.index("user_id"), "user_id", pa.array([least.min, 1, 2, 3, least.max])
    )
    assert to_rows(fitting, file, FEATURES, False, None).ids.dtype == np.int32
    unsigned = table.set_column(table.column_names.index("user_id"), "user_id", pa.array([2**31] * 5, pa.uint32()))
    assert to_rows(unsigned, file, FEATURES, False, None).ids[0, 0] == 2**31


def test_what_finishes_a_batch_runs_ahead_and_opening_is_timed(tmp_path):
    plan, threads, opening = plan_lanes(write(tmp_path, [20]), 1, 0, False), set(), {}

    def finish(batch: Batch) -> Batch:
        threads.add(threading.current_thread().name)
        batch.weight = batch.weight * 2
        return batch

    batches = list(iterate(plan, 0, 1, FEATURES, 8, finish=finish, opening=opening))
    assert threads == {"assemble"}
    assert all((batch.weight == 2).all() for batch in batches)
    assert opening.keys() == {"footers", "open_files"}
    assert min(opening.values()) > 0


@pytest.mark.parametrize("start", [0, 1, 5, 6, 7])
def test_starting_at_a_step_gives_what_the_unbroken_reader_gives_from_there(tmp_path, start):
    plan = plan_lanes(write(tmp_path, [30, 11, 23, 41], row_group=8), 3, 2, True)
    whole = [numbers_of(batch) for batch in iterate(plan, 0, 1, FEATURES, 16)]
    assert [numbers_of(batch) for batch in iterate(plan, 0, 1, FEATURES, 16, start_step=start)] == whole[start:]


@pytest.mark.parametrize("start", [0, 3])
def test_row_groups_are_dealt_where_files_are_too_few(tmp_path, start):
    files = write(tmp_path, [40, 40, 40], row_group=8)
    assert plan_lanes(files, 2, 1, True).imbalance == pytest.approx(1 / 3)
    plan = plan_lanes(by_row_groups(files), 2, 1, True)
    assert plan.imbalance == pytest.approx(1 / 15)
    whole = [[numbers_of(b) for b in iterate(plan, rank, 2, FEATURES, 16)] for rank in range(2)]
    assert sorted(n for rank in whole for batch in rank for n in batch) == list(range(120))
    assert max(abs(len(a) - len(b)) for a, b in zip(*whole, strict=True)) <= 2
    for rank in range(2):
        again = iterate(plan, rank, 2, FEATURES, 16, start_step=start)
        assert [numbers_of(batch) for batch in again] == whole[rank][start:]


def test_a_file_that_has_changed_is_refused_also_where_its_row_groups_are_dealt(tmp_path):
    files = [replace(file, rows=file.rows + 10) for file in write(tmp_path, [40], row_group=8)]
    with pytest.raises(InputError, match="has 40 rows: the table's log says 50"):
        by_row_groups(files)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_file_is_named_where_its_click_rate_is_asked_for_first(tmp_path, damage):
    (file,) = write(tmp_path, [40])
    path = Path(file.path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.unlink()
    with pytest.raises(InputError, match=path.name):
        click_log_odds(Files(table="ad_samples", version=1, files=[(file.path, 40)]), SingleProcess())


def test_columns_that_files_lack_are_the_same_in_every_row(tmp_path):
    files = []
    (tmp_path / "whole").mkdir()
    for file in write(tmp_path, [20, 20]):
        pq.write_table(pq.read_table(file.path).drop_columns(["weight", "day"]), file.path)
        files.append(FileRows(file.path, file.rows, constants={"weight": 2.0, "day": 9.0}))
    batches = list(iterate(plan_lanes(files, 2, 0, True), 0, 1, FEATURES, 16))
    assert sorted(n for batch in batches for n in batch.ids[:, 1].tolist()) == list(range(40))
    for batch in batches:
        assert batch.weight.tolist() == [2.0] * len(batch)
        assert batch.weight.dtype is torch.float32
        assert batch.day.tolist() == [9] * len(batch)
    whole = write(tmp_path / "whole", [20])[0]
    with pytest.raises(InputError, match="differ in the columns"):
        list(iterate(plan_lanes([files[0], whole], 1, 0, True), 0, 1, FEATURES, 16))


def test_only_what_pyarrow_says_of_its_old_interface_is_kept_quiet(tmp_path, monkeypatch):
    plan = plan_lanes(write(tmp_path, [5]), 1, 0, False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(iterate(plan, 0, 1, FEATURES, 5))) == 1
    monkeypatch.setattr("ecdctr.data.row_groups.OLD_INTERFACE", ())
    with pytest.raises(FutureWarning, match="deprecated"):
        list(iterate(plan, 0, 1, FEATURES, 5))


def test_names_belong_to_their_rows(tmp_path):
    plan = plan_lanes(write(tmp_path, [20, 20]), 2, 0, True)
    for batch in iterate(plan, 0, 1, FEATURES, 16, names=True):
        assert batch.event_id == [f"e{number}" for number in numbers_of(batch)]
        assert batch.user == [f"u{number}" for number in numbers_of(batch)]


def test_a_batch_cut_joined_and_taken_is_the_same_rows(tmp_path):
    plan = plan_lanes(write(tmp_path, [20]), 1, 0, False)
    (batch,) = iterate(plan, 0, 1, FEATURES, 32, names=True)
    again = Batch.concat([batch.slice(0, 7), batch.slice(7, 20)])
    assert numbers_of(again) == list(range(20))
    assert again.event_id == batch.event_id
    assert numbers_of(batch.take(torch.tensor([3, 1]))) == [3, 1]
    assert batch.take(torch.tensor([3, 1])).user == ["u3", "u1"]
    assert numbers_of(batch.to("cpu")) == list(range(20))


def test_leaving_early_or_failing_leaves_no_thread_behind(tmp_path):
    files = write(tmp_path, [50] * 6)
    before = threading.active_count()
    batches = iterate(plan_lanes(files, 2, 0, True), 0, 1, FEATURES, 8)
    next(batches)
    batches.close()
    assert threading.active_count() == before
    corrupt_page(files[3].path)
    with pytest.raises(InputError, match="parquet"):
        list(iterate(plan_lanes(files, 1, 0, False), 0, 1, FEATURES, 8))
    assert threading.active_count() == before


def corrupt_page(path: str, name: str = "label") -> None:
    """Overwrite the first page of a column and leave the footer whole."""
    group = pq.read_metadata(path).row_group(0)
    column = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == name)
    with open(path, "r+b") as file:
        file.seek(column.dictionary_page_offset or column.data_page_offset)
        file.write(b"\xff" * column.total_compressed_size)


def test_columns_that_nobody_asked_for_are_not_read(tmp_path):
    (file,) = write(tmp_path, [20])
    pq.write_table(pq.read_table(file.path).append_column("extra", pa.array(np.arange(20.0))), file.path)
    corrupt_page(file.path, "extra")
    with pytest.raises(OSError, match=r".*"):
        pq.read_table(file.path)
    batches = list(iterate(plan_lanes([file], 1, 0, False), 0, 1, FEATURES, 8))
    assert [n for batch in batches for n in numbers_of(batch)] == list(range(20))


def test_no_more_than_a_few_batches_wait_for_a_slow_trainer(tmp_path):
    made = []

    def finish(batch: Batch) -> Batch:
        made.append(batch)
        return batch

    batches = iterate(plan_lanes(write(tmp_path, [400]), 1, 0, False), 0, 1, FEATURES, 4, finish=finish)
    next(batches)
    deadline = time.monotonic() + 5
    while len(made) < AHEAD + 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    # One taken, those that wait, and the one that waits to wait.
    assert len(made) == AHEAD + 2
    batches.close()


def test_bad_files_are_named_before_the_first_batch(tmp_path):
    files = write(tmp_path, [5, 5])

    def refused(listed: list[FileRows], match: str) -> None:
        with pytest.raises(InputError, match=match):
            next(iterate(plan_lanes(listed, 2, 0, False), 0, 1, FEATURES, 4))

    refused([FileRows(str(tmp_path / "gone.parquet"), 5)], "gone.parquet is missing")
    refused([FileRows(files[0].path, 6)], "has 5 rows: the table's log says 6")
    (tmp_path / "zero.parquet").write_bytes(b"")
    refused([FileRows(str(tmp_path / "zero.parquet"), 5)], r"zero\.parquet is not a whole Parquet file")
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(Path(files[0].path).read_bytes()[:-9])
    refused([FileRows(str(cut), 5)], r"cut\.parquet is not a whole Parquet file")
    narrow = tmp_path / "narrow.parquet"
    pq.write_table(table_of(0, 5).drop(["price"]), narrow)
    refused([FileRows(str(narrow), 5)], r"no columns \['price'\]")
    pickled = tmp_path / "pickled.parquet"
    pq.write_table(table_of(0, 5).replace_schema_metadata({"dataset-toolkit.unischema.v1": "cbuiltins"}), pickled)
    refused([FileRows(str(pickled), 5)], "pickled metadata")
    with pytest.raises(InputError, match="pickled metadata"):
        read_footers([files[0].path, str(pickled)])
    assert read_footers([file.path for file in files]) == files


@pytest.mark.parametrize(
    ("column", "values", "match"),
    [
        ("item_id", pa.array([1, None, 3, 4, 5]), "item_id has 1 nulls"),
        ("item_id", pa.array([1.0, 2, 3, 4, 5]), "item_id is double: expected an integer"),
        ("clicks", pa.array([[1, 2, 3], [1, 2], [1, 2, 3], [1, 2, 3], [1, 2, 3]]), "lengths 2 to 3"),
        ("clicks", pa.array([[1, 2, 3], [1, 2, None], [1, 2, 3], [1, 2, 3], [1, 2, 3]]), "1 nulls"),
    ],
)
def test_rows_that_break_the_contract_are_named(tmp_path, column, values, match):
    table = table_of(0, 5)
    path = tmp_path / "bad.parquet"
    pq.write_table(table.set_column(table.column_names.index(column), column, values), path)
    with pytest.raises(InputError, match=match):
        list(iterate(plan_lanes([FileRows(str(path), 5)], 1, 0, False), 0, 1, FEATURES, 4))


def test_memory_is_that_of_a_few_row_groups(tmp_path):
    files = write(tmp_path, [20_000] * 12)
    row_group = 20_000 * (8 + 8 + 4 + 24 + 4 + 4 + 8)
    tracemalloc.start()
    for _ in iterate(plan_lanes(files, 1, 0, True), 0, 1, FEATURES, 1000):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * row_group
