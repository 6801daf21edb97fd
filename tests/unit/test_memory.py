"""Memory of tables: zeros of any size and shape, in huge pages where there are some."""

import gc
import mmap
import re
from pathlib import Path

import pytest
import torch

from ecdctr.nn import memory
from ecdctr.nn.memory import HUGE, zeros

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(0, 17), (5,), (HUGE // 4,), (HUGE // 4 + 1,), (100_001, 17)])
def test_they_are_zeros_that_can_be_written_to(shape):
    found = zeros(shape, CPU)
    assert found.dtype == torch.float32
    assert found.shape == shape
    assert found.is_contiguous()
    assert not found.any()
    found += 1
    assert bool((found == 1).all())


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel without huge pages")
def test_large_ones_are_asked_for_in_huge_pages_and_given_back():
    def mapped() -> int:
        """Kilobytes of mappings for which huge pages are asked."""
        parts = Path("/proc/self/smaps").read_text(encoding="utf-8").split("VmFlags:")
        sizes = [int(re.findall(r"^Size: +(\d+)", part, re.M)[-1]) for part in parts[:-1]]
        return sum(size for size, flags in zip(sizes, parts[1:], strict=True) if " hg" in flags.splitlines()[0])

    before = mapped()
    found = zeros((8, HUGE // 4), CPU)
    assert mapped() - before >= 8 * HUGE >> 10
    del found
    gc.collect()
    assert mapped() == before


def test_where_the_kernel_refuses_huge_pages_there_is_memory_all_the_same(monkeypatch):
    class Refusing(mmap.mmap):
        def madvise(self, *_):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(memory.mmap, "mmap", Refusing)
    assert not zeros((HUGE,), CPU).any()


def test_more_than_there_is_raises():
    with pytest.raises((RuntimeError, OSError)):
        zeros((1 << 50,), CPU)
