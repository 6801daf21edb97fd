"""Earlier exposures as rows of a log: every one once, in order, before the log begins."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecdctr.config import load_config
from ecdctr.datasets.kuairand_history import (
    COLUMNS,
    DAY_MS,
    END_MS,
    EVENTS,
    SEQUENCES,
    START_MS,
    exposures,
    main,
)  # fmt: skip
from ecdctr.exceptions import InputError

pytestmark = pytest.mark.unit

LONG = Path(__file__).parents[2] / "conf" / "datasets" / "kuairand_long.yml"
LAST = [START_MS + 10 * DAY_MS, END_MS - 1, START_MS + DAY_MS]


def sequences(last=LAST) -> pa.Table:
    return pa.table(
        {
            "user_id": [7, 8, 9],
            "last_time_ms": last,
            "watch_seq": pa.array([[5, 6, 5, 4], [3], []], pa.list_(pa.int64())),
            "like_seq": pa.array([[], [3], []], pa.list_(pa.int64())),
            "long_watch_seq": pa.array([[5], [], []], pa.list_(pa.int64())),
        }
    )


def test_each_exposure_is_one_row_evenly_spaced_up_to_the_known_last_one():
    found = exposures(sequences()).to_pydict()
    assert found["user_id"] == [7, 7, 7, 7, 8]
    assert found["video_id"] == [5, 6, 5, 4, 3]
    assert found["is_click"] == [1, 0, 1, 0, 0]
    assert np.diff(found["time_ms"][:4]).tolist() == [5 * DAY_MS // 2] * 3
    assert (found["time_ms"][3], found["time_ms"][4]) == (LAST[0], LAST[1])
    assert set(found["tab"]) == {None}
    assert all(found["earlier"])


@pytest.mark.parametrize("moment", [START_MS - 1, END_MS])
def test_a_last_exposure_within_the_log_itself_is_refused(moment):
    with pytest.raises(InputError, match="1 users"):
        exposures(sequences([LAST[0], moment, LAST[2]]))


def test_the_command_joins_both_files(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert EVENTS in capsys.readouterr().err
    pq.write_table(sequences(), tmp_path / SEQUENCES)
    log = {name: pa.array([1, 2], pa.int64()) for name in (*COLUMNS.names[:-1], "is_like")}
    pq.write_table(pa.table(log), tmp_path / EVENTS)
    assert main([str(tmp_path), str(tmp_path / "out")]) == 0
    table = pq.read_table(tmp_path / "out" / "impressions.parquet")
    assert table.schema.equals(COLUMNS)
    assert table["earlier"].to_pylist() == [True] * 5 + [False] * 2


def test_cpm_s_window_begins_with_the_log(monkeypatch):
    monkeypatch.setenv("ECDCTR_REAL_DATA", "data")
    config = load_config(LONG, [])
    # Walks begin seven days before the end of a log of fourteen.
    assert config.walk_days + config.levels.cpm.window <= 14
    assert config.levels.tpm.window >= 16 + 7
