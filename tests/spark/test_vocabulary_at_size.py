"""The vocabulary benchmark at a small size: what it writes is what it checks."""

import pytest

from benchmarks.vocabulary import check, config, grow, write_log
from ecdctr.lake.tables import Lake

pytestmark = [pytest.mark.spark, pytest.mark.campaign]


def test_all_that_is_checked_holds_for_a_thousand_tokens(spark, tmp_path):
    settled = config(str(tmp_path))
    lake = Lake(spark, settled.warehouse_dir)
    assert write_log(lake, 1_000) == [500, 550]
    grow(lake, settled)
    assert check(lake, 1_000) == dict.fromkeys(("unique", "dense", "stable", "complete"), True)
