"""The ETL benchmark's own parts: what a process tree takes, and a page that says no more than the runs do."""

import sys

import pytest

from benchmarks.etl_page import page
from benchmarks.process_tree import watch

pytestmark = pytest.mark.unit

TREE = """
import subprocess, sys, time
print("ready", flush=True)
taken = bytearray(60_000_000)
subprocess.run([sys.executable, "-c", "taken = bytearray(30_000_000)\\nfor _ in range(30_000_000): pass"], check=True)
print("done", flush=True)
"""


def run(contestant, rows, seconds, cpu, digest=7, other=0.0):
    peaks = {"tree": 900.0, "driver": 100.0, "jvm": 700.0, "workers": 100.0}
    content = {"natural": [rows, digest, 1.0], "ad": [1, 1, 1.0]}
    return {
        "contestant": contestant,
        "rows": rows,
        "repetition": 0,
        "heap": "2g",
        "seconds": seconds,
        "cpu_seconds": cpu,
        "other_cpu_seconds": other,
        "events_per_second": rows / seconds,
        "peak_mb": peaks,
        "stages": {"impressions": seconds},
        "content": content,
    }


def test_a_tree_of_processes_is_measured_as_a_whole():
    usage = watch([sys.executable, "-c", TREE], 60, {})
    assert usage.lines == ["ready", "done"]
    (_, before, whole), (_, after, whole_after) = usage.marks
    assert 0.03 < after - before < whole_after - whole + 0.1
    assert usage.peak_mb["driver"] > 55
    with pytest.raises(RuntimeError, match="ended with 3"):
        watch([sys.executable, "-c", "raise SystemExit(3)"], 60, {})
    with pytest.raises(RuntimeError, match="limit 1 s"):
        watch([sys.executable, "-c", "import time; time.sleep(60)"], 1, {})


def test_the_page_says_whether_the_aim_is_reached_and_whether_the_rows_are_the_same():
    machine = {"cores": 2}
    runs = [run("prepare", 1000, 12.0, 20.0), run("by_hand", 1000, 10.0, 10.0), run("duckdb", 1000, 1.0, 2.0, digest=8)]
    text = page(runs, machine)
    assert "1.20 by wall time and 2.00 by processor time; at most 1.3 is wanted: reached by one of the two" in text
    assert "| by hand in Spark SQL | 2g | 1 | 10.0 | 100 | 10.0 | 1.20 | 2.00 | yes |" in text
    assert "| 12.00 | 10.00 | **no** |" in text
    assert "1.20 | 2.00 | yes" not in page([*runs[:1], run("by_hand", 1000, 10.0, 10.0, other=9.0)], machine)
    assert "not reached" in page([run("prepare", 5, 20.0, 20.0), run("by_hand", 5, 10.0, 10.0)], machine)


def test_a_contestant_that_ended_without_its_tables_is_told_and_not_compared():
    failed = {"contestant": "by_hand", "rows": 9, "repetition": 0, "heap": "2g", "failed": "ended without its tables"}
    text = page([run("prepare", 9, 20.0, 20.0), failed, run("by_hand", 9, 10.0, 10.0) | {"heap": "4g"}], {"cores": 2})
    assert "| by hand in Spark SQL | 2g | 1 | ended without its tables |" in text
    assert "| by hand in Spark SQL | 4g | 1 | 10.0 |" in text
