"""What names an impression: ids of several columns, and those of rows that were made up."""

import hashlib
import re

import pandas as pd
import pytest
from pydantic import ValidationError

from ecdctr.etl.ingest import look_through

pytestmark = pytest.mark.spark

COLUMNS = {"user": "user_id", "item": "item", "time": {"column": "ts"}, "label": "click"}
MISSING = "event id (request, item) is missing"


@pytest.fixture
def typed(spark, make_config, tmp_path):
    """Types a log of three users and gives its rows by event id, and those without one by their reason."""

    def run(event_id, negatives=None, **columns):
        log = pd.DataFrame({"user_id": [1, 2, 3], "item": ["x", "y", "y"], "ts": pd.Timestamp("2024-01-01 05:00")})
        log.assign(click=1, **columns).to_parquet(tmp_path / "log.parquet", coerce_timestamps="us", index=False)
        natural = {"path": str(tmp_path / "log.parquet"), "negatives": negatives}
        config = make_config(natural=natural, columns=COLUMNS | {"event_id": event_id}, features=[])
        rows = look_through(spark, config.dataset, "natural").frame.collect()
        named = {row["event_id"]: (row["user_id"], row["item_id"], row["label"]) for row in rows if row["event_id"]}
        return named, sorted(str(row["_reason"]) for row in rows if not row["event_id"])

    return run


def digest(*parts):
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


@pytest.mark.parametrize(("second", "third"), [(None, ""), ("", None)])
def test_an_id_of_several_columns_is_missing_where_one_of_them_is(typed, second, third):
    named, reasons = typed(["request", "item"], request=["r", second, third])
    assert named == {digest("r", "x"): ("1", "x", 1)}
    assert reasons == [MISSING, MISSING]
    named, reasons = typed([], request=["r", second, third])
    assert named == {
        digest(user, item, "2024-01-01 05:00:00"): (user, item, 1)
        for user, item in (("1", "x"), ("2", "y"), ("3", "y"))
    }
    assert reasons == []


@pytest.mark.parametrize("numbers", [True, False], ids=["numbers", "text"])
def test_made_rows_have_names_of_their_own_and_clicks_keep_theirs(typed, numbers):
    ids = [2**53 + 1, -7, None] if numbers else [str(2**53 + 1), "-7", ""]
    serial = pd.array(ids, dtype="Int64" if numbers else "string")
    named, reasons = typed(["serial"], {"per_click": 8}, serial=serial)
    made = {name: row for name, row in named.items() if "made" in name}
    assert {name: row for name, row in named.items() if name not in made} == {
        str(2**53 + 1): ("1", "x", 1), "-7": ("2", "y", 1),
    }  # fmt: skip
    owners = {name: re.fullmatch(r"(.+)-made-[1-8]", name)[1] for name in made}
    assert set(owners.values()) == {str(2**53 + 1), "-7"}
    # Of two items, the one that was not clicked.
    others = {str(2**53 + 1): ("1", "y", 0), "-7": ("2", "x", 0)}
    assert made == {name: others[owner] for name, owner in owners.items()}
    assert len(reasons) > 1
    assert set(reasons) == {"event id (serial) is missing"}


def test_made_rows_that_nothing_would_tell_from_each_other_are_refused(make_config):
    source = {"path": "x", "negatives": {}, "columns": COLUMNS | {"event_id": ["request", "place"]}}
    with pytest.raises(
        ValidationError, match=r"names request, place, .* name 'item' there as well, or one column alone"
    ):
        make_config(natural=source)
    for event_id in ([], ["request"], ["request", "item"]):
        make_config(natural=source | {"columns": COLUMNS | {"event_id": event_id}})
