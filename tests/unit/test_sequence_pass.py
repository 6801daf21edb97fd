"""The sorted pass over clicks, against a search that looks at every earlier click."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from ecdctr.etl import click_history
from ecdctr.etl.click_history import SAMPLE, Channel, History, Sequence, history_pass
from ecdctr.features.encoding import bucket_id

pytestmark = pytest.mark.unit

OOV = 3
ITEM = Channel("_item", "_known", (2, OOV))


def events(rng: np.random.Generator, rows: int, users: int, times: int, day: int = 3) -> list[dict[str, int | str]]:
    """Samples and clicks in the order of the pass, with many equal times."""
    made = []
    for place in range(rows):
        made.append(
            {
                "event_id": f"e{place:05d}",
                "user": f"u{rng.zipf(1.5) % users}",
                "day": day,
                "_micros": int(rng.integers(0, times)) * 1_000_000,
                "_domain": int(rng.choice([SAMPLE, SAMPLE, 0, 1])),
                "_item": int(rng.integers(2, 40)),
                "_known": int(rng.integers(0, 6)),
            }
        )
    return sorted(made, key=lambda event: (event["user"], event["_micros"], event["event_id"]))


def expected(rows: list[dict], spec: Sequence) -> dict[str, list[int]]:
    out = {}
    for row in (row for row in rows if row["_domain"] == SAMPLE):
        before = [
            click
            for click in rows
            if click["user"] == row["user"]
            and click["_domain"] in spec.domains
            and click["_micros"] < row["_micros"] - spec.delay
        ]
        newest = before[::-1][: spec.length]
        items = [c["_item"] if c["_known"] <= row["day"] else bucket_id(c["_item"], OOV) for c in newest]
        out[row["event_id"]] = items + [0] * (spec.length - len(items))
    return out


def run(rows: list[dict], specs: list[Sequence], batch_rows: int) -> list[dict[str, list[int]]]:
    names = ["event_id", "user", "day", *(f"s{place}" for place in range(len(specs)))]
    table = pa.Table.from_pylist(rows)
    out = pa.Table.from_batches(list(history_pass(specs, names)(table.to_batches(max_chunksize=batch_rows))))
    ids = out["event_id"].to_pylist()
    assert len(ids) == len(set(ids))
    return [dict(zip(ids, out[f"s{place}"].to_pylist(), strict=True)) for place in range(len(specs))]


SPECS = [
    Sequence(length=4, domains=(0, 1), delay=0, channels=(ITEM,)),
    Sequence(length=1, domains=(1,), delay=0, channels=(ITEM,)),
    Sequence(length=7, domains=(0,), delay=5_000_000, channels=(ITEM,)),
]


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
@pytest.mark.parametrize("users", [1, 3, 60])
def test_the_pass_equals_the_search_whatever_the_batches(users, batch_rows, monkeypatch):
    monkeypatch.setattr(click_history, "CHUNK_ROWS", 50)
    rows = events(np.random.default_rng(users), 300, users, times=40)
    for spec, found in zip(SPECS, run(rows, SPECS, batch_rows), strict=True):
        assert found == expected(rows, spec)


def test_a_click_at_the_same_moment_is_not_yet_known():
    rows = [
        {"event_id": "a", "user": "u", "day": 3, "_micros": 5, "_domain": 0, "_item": 9, "_known": 0},
        {"event_id": "b", "user": "u", "day": 3, "_micros": 5, "_domain": SAMPLE, "_item": 0, "_known": 0},
        {"event_id": "c", "user": "u", "day": 3, "_micros": 6, "_domain": SAMPLE, "_item": 0, "_known": 0},
    ]
    assert run(rows, SPECS[:1], 10)[0] == {"b": [0, 0, 0, 0], "c": [9, 0, 0, 0]}


def test_times_a_century_apart_do_not_mix_users_up():
    century = 100 * 365 * 86_400 * 1_000_000
    rows = [
        {"event_id": f"{user:04d}{kind}", "user": f"u{user:04d}", "day": 3, "_micros": micros, "_domain": domain,
         "_item": 5 + user, "_known": 0}
        for user in range(1000)
        for kind, micros, domain in (("a", 0, 0), ("b", century, SAMPLE))
    ]  # fmt: skip
    found = run(rows, SPECS[:1], 2000)[0]
    assert found == {f"{user:04d}b": [5 + user, 0, 0, 0] for user in range(1000)}


def test_the_state_between_batches_is_only_what_a_later_row_may_see():
    history = History(SPECS[0])
    rows = 500
    values = {
        "_micros": np.arange(rows, dtype=np.int64),
        "_domain": np.zeros(rows, np.int64),
        "_item": np.full(rows, 7, np.int64),
        "_known": np.zeros(rows, np.int64),
        "day": np.zeros(rows, np.int64),
    }
    history.step(np.zeros(rows, np.int64), values, np.zeros(rows, bool), goes_on=False)
    assert history.carried.micros.size <= SPECS[0].length + 1


@pytest.mark.parametrize("batch_rows", [3, 1000])
def test_attributes_and_times_stand_at_the_places_of_their_clicks(batch_rows):
    rng = np.random.default_rng(4)
    rows = events(rng, 200, 5, times=10_000)
    for row in rows:
        row |= {"_shop": int(rng.integers(1, 30)), "_shop_known": int(rng.integers(0, 6))}
    shop = Channel("_shop", "_shop_known", (2, 1))
    spec = Sequence(length=4, domains=(0, 1), delay=0, channels=(ITEM, shop), times=True)
    names = ["event_id", "user", "day", "items", "shops", "times"]
    batches = pa.Table.from_pylist(rows).to_batches(max_chunksize=batch_rows)
    out = pa.Table.from_batches(list(history_pass([spec], names)(batches))).to_pylist()
    wanted = expected(rows, spec)
    by_id = {row["event_id"]: row for row in rows}
    assert len(out) == sum(row["_domain"] == SAMPLE for row in rows)
    for found in out:
        row = by_id[found["event_id"]]
        before = [r for r in rows if r["user"] == row["user"] and r["_domain"] >= 0 and r["_micros"] < row["_micros"]][
            ::-1
        ][:4]
        pad = [0] * (4 - len(before))
        assert found["items"] == wanted[row["event_id"]]
        assert (
            found["shops"]
            == [click["_shop"] if click["_shop_known"] <= row["day"] or click["_shop"] < 3 else 2 for click in before]
            + pad
        )
        seconds = [(row["_micros"] - click["_micros"]) // 1_000_000 for click in before]
        assert found["times"] == [2 + age.bit_length() for age in seconds] + pad


def test_memory_does_not_grow_with_the_rows_of_one_user():
    length = 5000
    spec = Sequence(length=length, domains=(0, 1), delay=0, channels=(ITEM,), times=True)
    names = ["event_id", "user", "day", "items", "times"]

    def batches(rows):
        for start in range(0, rows, 1000):
            place = np.arange(start, start + 1000)
            yield pa.RecordBatch.from_pydict(
                {
                    "event_id": pa.array([f"e{p:07d}" for p in place]),
                    "user": pa.array(["giant"] * 1000),
                    "day": place * 0 + 3,
                    "_micros": place * 1_000_000,
                    # One row in fifty is a sample: 5,000 ids each.
                    "_domain": np.where(place % 50 == 49, SAMPLE, place % 2),
                    "_item": 5 + place,
                    "_known": place * 0,
                }
            )

    def peak(rows):
        tracemalloc.start()
        try:
            for part in history_pass([spec], names)(batches(rows)):
                last = part
            newest = last["items"][-1].as_py()
            assert newest[:48] == list(range(rows + 3, rows - 45, -1))
            assert len([item for item in newest if item]) == min(length, (rows - 1) // 50 * 49 + 49)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1000)
    short, long = peak(10_000), peak(40_000)
    assert long < 1.2 * short
