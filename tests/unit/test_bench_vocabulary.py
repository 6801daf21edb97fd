"""The vocabulary benchmark's page says no more than its runs do."""

import pytest

from benchmarks.vocabulary import joins_of, page

pytestmark = pytest.mark.unit


def test_the_page_says_what_was_measured_and_what_did_not_hold():
    day = {"admitted": 500_000, "rows": 500_000, "seconds": 10.0, "joins": ["SortMergeJoin (LeftAnti) on v, token"]}
    run = {
        "tokens": 1_000_000, "heap": "2g", "slots": "2", "days": [day, day | {"seconds": 20.0}],
        "peak_mb": {"tree": 2000.0, "jvm": 1900.0, "driver": 90.0, "workers": 0.0},
        "bytes": {"natural_impressions": 1, "vocabulary": 12_000_000}, "checks": {"unique": True, "stable": False},
    }  # fmt: skip
    text = page([run | {"tokens": 5, "heap": "4g"}, run])
    assert "| 1,000,000 | 2g, 2 | 10.0, 50,000 | 20.0, 25,000 | 1,900 | 90 | 12 |" in text
    assert (
        "1,000,000: unique: yes, stable: **no**. Joins of the second day's plan: SortMergeJoin (LeftAnti) on v, token."
        in text
    )
    assert text.index("| 5 |") < text.index("| 1,000,000 |")


def test_each_join_of_a_plan_is_named_once():
    plan = """
    +- BroadcastHashJoin [_range#12, v#3], [_range#55, v#56], Inner, BuildRight, false
       :- SortMergeJoin [v#3, token#4], [v#30, token#31], LeftAnti
       +- SortMergeJoin [v#7, token#8], [v#40, token#41], LeftAnti
    """
    assert joins_of(plan) == ["BroadcastHashJoin (Inner) on _range, v", "SortMergeJoin (LeftAnti) on v, token"]
