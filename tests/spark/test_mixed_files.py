"""Files of a log, of its clicks and of its side tables that name columns otherwise would give other labels and attributes."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from ecdctr.etl.ingest import look_through
from ecdctr.exceptions import InputError

pytestmark = pytest.mark.spark

MOMENT = pd.Timestamp("2024-01-01 05:00")
COLUMNS = {"user": "user_id", "item": "item", "time": {"column": "ts"}, "label": "click", "event_id": ["event_id"]}


def log(place: int) -> pd.DataFrame:
    rows = [f"{place}-{row}" for row in range(3)]
    return pd.DataFrame({"event_id": rows, "user_id": [1, 2, 3], "item": "x", "ts": MOMENT, "shop": ["s", "t", "t"]})


def write(folder: Path, *frames: pd.DataFrame) -> str:
    folder.mkdir(exist_ok=True)
    for name, frame in zip("ab", frames, strict=False):
        frame.to_parquet(folder / f"{name}.parquet", coerce_timestamps="us", index=False)
    return str(folder)


def test_a_column_that_only_labels_and_domains_are_made_of_is_missed(spark, make_config, tmp_path, caplog):
    first = log(0).assign(event=["click", "view", "click"], slot=1)
    second = log(1).assign(event=["view", "view", "click"], slot=1)
    source = {
        "path": write(tmp_path / "log", first, second),
        "derive": {"click": "CASE WHEN Event='click' THEN 1 ELSE 0 END"}, "where": "slot = 1",
    }  # fmt: skip
    config = make_config(natural=source, columns=COLUMNS, features=[])

    def labels():
        return {row["event_id"]: row["label"] for row in look_through(spark, config.dataset, "natural").frame.collect()}

    assert labels() == {"0-0": 1, "0-1": 0, "0-2": 1, "1-0": 0, "1-1": 0, "1-2": 1}
    write(tmp_path / "log", first, second.rename(columns={"event": "action"}))
    words = r"natural: .*b\.parquet differs from a\.parquet: column 'event' \(string\) is missing, perhaps renamed to 'action'"
    with pytest.raises(InputError, match=words):
        labels()
    write(tmp_path / "log", first, second.rename(columns={"slot": "place"}))
    with pytest.raises(InputError, match=r"column 'slot' \(int64\) is missing"):
        labels()
    config = make_config(natural=source | {"schema_drift": "warn"}, columns=COLUMNS, features=[])
    with caplog.at_level(logging.WARNING):
        assert labels() == {"0-0": 1, "0-1": 0, "0-2": 1}
    assert "column 'slot' (int64) is missing" in caplog.text


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_files_of_a_side_table_are_compared(spark, make_config, tmp_path, kind, caplog):
    first, second = pd.DataFrame({"shop": ["s"], "town": ["p"]}), pd.DataFrame({"shop": ["t"], "town": ["q"]})

    def side(*frames):
        folder = tmp_path / "side"
        if kind == "parquet":
            return write(folder, *frames)
        folder.mkdir(exist_ok=True)
        for name, frame in zip("ab", frames, strict=True):
            frame.to_csv(folder / f"{name}.csv", index=False)
        return str(folder)

    joined = {"path": side(first, second), "format": kind, "key": "shop", "columns": ["town"]}
    path = write(tmp_path / "log", log(0).assign(click=0))

    def towns(schema_drift="fail"):
        natural = {"path": path, "side_tables": [joined], "schema_drift": schema_drift}
        config = make_config(natural=natural, columns=COLUMNS, features=[{"name": "town", "kind": "id"}])
        rows = look_through(spark, config.dataset, "natural").frame.collect()
        return {row["user_id"]: row["town"] for row in rows}

    assert towns() == {"1": "p", "2": "q", "3": "q"}
    side(first, second.rename(columns={"town": "city"}))
    words = r"(?s)natural\.side_tables\.0: .*b\.\w+ differs from a\.\w+: column 'town' .* renamed to 'city'.*set dataset.natural.schema_drift"
    with pytest.raises(InputError, match=words):
        towns()
    if kind == "parquet":
        with caplog.at_level(logging.WARNING):
            assert towns("warn") == {"1": "p", "2": None, "3": None}
        assert "column 'town' (string) is missing" in caplog.text
    else:
        side(first, second[["town", "shop"]])
        with pytest.raises(
            InputError, match=r"side_tables\.0: .*has the columns town, shop, and a\.csv has shop, town"
        ):
            towns("warn")


def test_files_of_a_log_of_clicks_are_compared(spark, make_config, tmp_path):
    clicks = pd.DataFrame({"who": [1], "what": "x", "when": MOMENT, "more": 1})
    mapping = {"user": "who", "item": "what", "time": {"column": "when"}}
    natural = {
        "path": write(tmp_path / "log", log(0)), "columns": {k: v for k, v in COLUMNS.items() if k != "label"},
        "clicks": {"path": write(tmp_path / "clicks", clicks, clicks.drop(columns="more")), "columns": mapping},
    }  # fmt: skip
    config = make_config(natural=natural, columns=COLUMNS, late_window="1d", features=[])
    assert sum(look_through(spark, config.dataset, "natural").rows.values()) == 3
    write(tmp_path / "clicks", clicks, clicks.rename(columns={"when": "at"}))
    words = r"(?s)natural\.clicks: .*b\.parquet differs from a\.parquet: column 'when' .*set dataset\.natural\.schema_drift: warn"
    with pytest.raises(InputError, match=words):
        look_through(spark, config.dataset, "natural")
