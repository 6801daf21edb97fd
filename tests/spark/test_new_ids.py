"""Shares of rows without an id on every new day of one preparation, against a plain loop over the days."""

import datetime as dt
from collections import Counter

import pytest

from ecdctr.etl.ingest import look_through
from ecdctr.etl.new_ids import new_id_shares
from ecdctr.etl.prepare import prepare
from ecdctr.exceptions import InputError
from ecdctr.lake.tables import Lake
from tests.spark.conftest import START

pytestmark = pytest.mark.spark

DAYS = 5
DAY = dt.timedelta(days=1)
COLUMNS = {"user_id": "user_id", "item_id": "item"}


def by_hand(frames, rules, late):
    """Share by domain, day and field; each day's ids are those of the days before, one preparation a day."""
    shares = {}
    for field, column in COLUMNS.items():
        counted: dict[object, Counter] = {}
        admitted = {}
        apart = not rules[field].get("share_domains", True)
        for day in (START + place * DAY for place in range(DAYS)):
            of_day = {domain: frame[frame["ts"].dt.date == day][column] for domain, frame in frames.items()}
            for domain, tokens in of_day.items():
                keys = [(domain if apart else "", token) for token in tokens]
                if keys and day > START + late * DAY:
                    new = sum(key not in admitted or admitted[key] >= day for key in keys)
                    shares[domain, day, field] = new / len(keys)
                for key in keys:
                    counted.setdefault(key, Counter())[day] += 1
            for key, counts in counted.items():
                since = day - (rules[field].get("window", DAYS) - 1) * DAY
                if (
                    key not in admitted
                    and sum(n for when, n in counts.items() if when >= since) >= rules[field]["min_count"]
                ):
                    admitted[key] = day + late * DAY
    return shares


@pytest.mark.parametrize("late", [0, 1])
def test_shares_are_those_of_days_prepared_one_by_one(spark, make_config, write_logs, late):
    frames = write_logs(DAYS)
    rules = {"user_id": {"min_count": 1, "share_domains": False}, "item_id": {"min_count": 4, "window": 2}}
    config = make_config(features=[], late_window=f"{late}d", top={"vocabularies": rules})
    found = {domain: look_through(spark, config.dataset, domain) for domain in ("natural", "ad")}
    shares = new_id_shares(Lake(spark, config.warehouse_dir), config, found, [START + n * DAY for n in range(DAYS)])
    wanted = by_hand(frames, rules, late)
    assert shares == pytest.approx(wanted)
    assert len({*wanted.values()}) > 5


def test_of_several_new_days_the_one_with_tokens_that_nobody_knows_is_refused(spark, make_config, write_logs):
    drifting = START + 3 * DAY

    def change(domain, frame):
        strange = frame["ts"].dt.date == drifting
        frame.loc[strange, "item"] = [f"{domain}{place}" for place in range(strange.sum())]
        return frame

    write_logs(DAYS, change)
    rule = {"new_ids": {"policy": "fail", "tolerance": 0.5}, "least_days": 1}
    off = {key: {"policy": "off"} for key in ("volume", "click_rate", "null_rate")}
    config = make_config(features=[], top={"quality": rule | off, "vocabularies": {}})
    with pytest.raises(InputError) as caught:
        prepare(spark, config, None)
    message = str(caught.value)
    assert f"natural {drifting}: new_ids of item_id is 1," in message
    assert f"ad {drifting}: new_ids of item_id is 1," in message
    assert message.count("new_ids of") == 2
