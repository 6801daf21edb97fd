"""What columns must be: bad rows are named or put aside, and the table itself takes none."""

import pandas as pd
import pytest

from ecdctr.etl.prepare import prepare
from ecdctr.exceptions import InputError
from ecdctr.hooks import Hook, Hooks
from ecdctr.lake.tables import Lake

pytestmark = pytest.mark.spark

CONTRACT = {
    "price": {"required": True, "min": -500, "max": 500},
    "position": {"max": 4, "domains": ["ad"]},
    "category": {"values": ["a", "b", "it's \\ odd"], "domains": ["natural"]},
}
FEATURES = [
    {"name": "category", "kind": "id"},
    {"name": "position", "kind": "bucket", "boundaries": [1, 3]},
    {"name": "price", "kind": "number"},
]
COLUMNS = {"user": "user_id", "item": "item", "time": {"column": "ts"}, "label": "click"}


def spoil(domain, frame):
    """Rows 0 to 3 of the natural log and row 0 of the ads break the contract, each in its own way."""
    moments = frame["ts"] + pd.to_timedelta(frame.index, unit="s")
    frame = frame.assign(price=frame["price"].fillna(1.0), category="a", ts=moments)
    if domain == "ad":
        # A category that binds natural rows alone.
        frame.loc[0, ["position", "category"]] = [5, "z"]
    else:
        frame.loc[0, "price"] = 501.0
        frame.loc[1, "price"] = float("nan")
        frame.loc[2, "category"] = "z"
        frame.loc[3, ["position", "category"]] = [9, "it's \\ odd"]
    return frame


class Recorder(Hook):
    def __init__(self):
        self.reasons = {}

    def on_quarantine(self, event):
        self.reasons = event.reasons


def test_rows_that_break_the_contract_are_named_or_put_aside_and_constraints_stand_on_the_table(
    spark, make_config, write_logs
):
    frames = write_logs(days=2, change=spoil)
    refusing = make_config(features=FEATURES, contract=CONTRACT, columns=COLUMNS)
    with pytest.raises(InputError) as caught:
        prepare(spark, refusing, None)
    message = str(caught.value)
    for words in ("1 rows: price is outside [-500, 500]", "1 rows: category is none of the values of its contract"):
        assert words in message
    # The identity holds the user; a message names him by a digest alone.
    assert "user_id=sha256:" in message
    assert not any(str(user) in message for user in frames["natural"]["user_id"].unique())
    lake = Lake(spark, refusing.warehouse_dir)
    assert lake.describe() == []

    config, told = make_config(features=FEATURES, contract=CONTRACT, columns=COLUMNS, drop_bad_rows=True), Recorder()
    summary = prepare(spark, config, None, Hooks(given=[told]))
    wanted = {
        "price is outside [-500, 500]": 1, "category is none of the values of its contract": 1,
        "position is outside (-∞, 4]": 1, "price is missing, but required": 1,
    }  # fmt: skip
    assert told.reasons == wanted
    assert summary.quarantined == sum(wanted.values())
    given = {domain: len(rows) for domain, rows in frames.items()}
    assert summary.rows == {"natural": given["natural"] - 3, "ad": given["ad"] - 1}
    fields = {field["name"]: field for field in lake.snapshot("ad_impressions").schema["fields"]}
    assert [fields[name]["nullable"] for name in ("price", "position")] == [False, True]

    good = lake.read("natural_impressions").limit(1)
    for expression, value in (("price", "501D"), ("price", "double('nan')"), ("category", "'z'")):
        with pytest.raises(Exception, match="CHECK constraint contract_"):
            lake.append("natural_impressions", good.selectExpr(*(
                f"{value} AS {name}" if name == expression else name for name in good.columns
            )))  # fmt: skip
    lake.append("natural_impressions", good.selectExpr(*(
        "99D AS position" if name == "position" else name for name in good.columns
    )))  # fmt: skip
