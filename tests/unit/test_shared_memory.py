"""Ranks of one machine through shared memory: the same results as the collective that is wrapped, and its failures."""

import os
import subprocess

import pytest
import torch

from ecdctr.distributed import shared_memory
from ecdctr.distributed.failures import ExchangeError
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.shared_memory import COUNTERS, SharedMemoryCollective, sharing_memory
from tests.unit.test_collective import everything

pytestmark = pytest.mark.skipif(COUNTERS is None, reason="the library of counters was not built here")


def over_memory(base, **options) -> SharedMemoryCollective:
    found = sharing_memory(base, options.pop("stall_seconds", 20), **options)
    assert isinstance(found, SharedMemoryCollective)
    return found


@pytest.mark.parametrize("slot_bytes", [1 << 16, 64, 8])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_results_are_those_of_the_wrapped_collective(size, slot_bytes):
    """Also where some or all of what ranks lay down has no room, so that the wrapped one does it."""
    assert run_inline(size, lambda base: everything(over_memory(base, slot_bytes=slot_bytes))) == run_inline(
        size, everything
    )


@pytest.mark.parametrize("slot_bytes", [1 << 20, 2000])
def test_many_steps_of_uneven_parts_equal_the_wrapped_collective_bit_for_bit(slot_bytes):
    def steps(collective):
        generator, seen = torch.Generator().manual_seed(collective.rank), []
        for _ in range(60):
            rows = int(torch.randint(0, 30, (), generator=generator))
            dense, parts = torch.randn(7, generator=generator), torch.randn(rows, 5, generator=generator)
            gathered = collective.all_reduce_and_gather_(dense, parts.view(torch.int32))
            first = rows // 2
            seen += [dense, torch.cat(gathered)]
            # Written to where the others read it.
            sent = collective.room((rows, 4), torch.float32).copy_(parts[:, 1:])
            wait = collective.begin_all_to_all(sent, [first, rows - first, 0])
            # Until the next operation but one, what has come can be read.
            seen.append(collective.all_gather(parts[:0]))
            seen += [part.clone() for part in wait()]
            seen.append(collective.all_reduce_(torch.randn(3, 2, generator=generator).t(), "max"))
        return seen

    ours = run_inline(3, lambda base: steps(over_memory(base, slot_bytes=slot_bytes)))
    theirs = run_inline(3, steps)
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine) == len(other)
        assert all(torch.equal(left, right) for left, right in zip(mine, other, strict=True))


def test_an_empty_dimension_is_left_to_the_wrapped_collective():
    found = run_inline(2, lambda base: over_memory(base).all_gather(torch.zeros(3, 0)).shape)
    assert found == [(6, 0), (6, 0)]


def test_ranks_in_different_operations_are_told_so():
    def apart(base):
        collective = over_memory(base)
        collective.all_gather(torch.zeros(2)) if base.rank else collective.all_reduce_(torch.zeros(2))

    with pytest.raises(ExchangeError, match=r"operation 1, \('(sum|gather)', torch.float32.* another one"):
        run_inline(2, apart)


def test_a_rank_that_does_not_come_is_named():
    def late(base):
        collective = over_memory(base, stall_seconds=1)
        if base.rank == 0:
            collective.barrier()

    with pytest.raises(ExchangeError, match=r"rank 0: .* rank 1 has not come within 1 s"):
        run_inline(2, late)


def test_a_rank_that_has_ended_is_named_at_once():
    child = subprocess.Popen(["sleep", "0"])
    while shared_memory._alive(child.pid):
        pass

    def alone(base):
        collective = over_memory(base, stall_seconds=600)
        collective._others = {1 - base.rank: child.pid}
        if base.rank == 0:
            collective.barrier()

    # Not waited for yet: a zombie has ended too.
    with pytest.raises(ExchangeError, match="rank 1 has ended"):
        run_inline(2, alone, seconds=30)
    child.wait()
    assert not shared_memory._alive(child.pid)
    assert shared_memory._alive(os.getpid())


def refuse(*_):
    return None


@pytest.mark.parametrize("missing", ["_reserve", "_map", "_alive", "COUNTERS"])
def test_without_shared_memory_the_collective_stays_as_it_is(monkeypatch, missing):
    monkeypatch.setattr(shared_memory, missing, None if missing == "COUNTERS" else refuse)
    assert run_inline(2, lambda base: sharing_memory(base, 5) is base) == [True, True]


def test_ranks_on_two_machines_stay_as_they_are(monkeypatch):
    names = iter("ab")
    monkeypatch.setattr(shared_memory, "_machine", lambda: next(names))
    assert run_inline(2, lambda base: sharing_memory(base, 5) is base) == [True, True]


def test_no_memory_is_taken_where_it_is_scarce(monkeypatch):
    monkeypatch.setattr(shared_memory, "SPARE", 1 << 60)
    assert shared_memory._reserve(4096) is None
