"""A notebook's cell that is run a second time finds what the first one has made."""

import pytest

from ecdctr.pipelines.prepare import prepare_tables
from ecdctr.pipelines.workspace import Workspace

pytestmark = pytest.mark.spark


def test_a_cell_run_twice_has_one_session_and_one_result(spark, whole):
    results, sessions = [], []
    for _ in range(2):
        # What notebooks/01_walkthrough.ipynb does in its first two cells; nothing of the first time is put away.
        workspace = Workspace(whole.config)
        results.append(prepare_tables(workspace, until=None))
        sessions.append(workspace.spark)
    assert sessions[0] is sessions[1]
    assert sessions[0].sparkContext is spark.sparkContext
    assert results[0]["versions"] == results[1]["versions"] == whole.summary.versions
    assert (results[1]["days"], results[1]["rows"]) == (0, {"natural": 0, "ad": 0})
