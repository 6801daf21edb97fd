"""A disk that is full while a checkpoint is written: the one before stays, nothing is left behind."""

import pytest
import torch

from ecdctr.artifacts.checkpoints import CheckpointFolder
from ecdctr.exceptions import EcdctrError
from tests.small_disk import BYTES, small_disk  # noqa: F401 - a fixture

pytestmark = pytest.mark.unit


def test_a_full_disk_leaves_the_checkpoint_before_and_no_part_of_the_new_one(small_disk):  # noqa: F811
    folder = CheckpointFolder(small_disk.root / "run", "task")
    folder.save(10, {"w": torch.ones(1000)}, {})
    small_disk.leave(BYTES // 2)
    before = {file.name for file in (small_disk.root / "run").iterdir()}
    with pytest.raises(EcdctrError, match="step 20") as caught:
        folder.save(20, {"w": torch.ones(BYTES // 4)}, {})
    assert isinstance(caught.value.__cause__, OSError)
    assert folder.whole() == [10]
    assert {file.name for file in (small_disk.root / "run").iterdir()} == before
    small_disk.leave(BYTES)
    folder.save(20, {"w": torch.ones(1000)}, {})
    assert folder.whole() == [10, 20]
