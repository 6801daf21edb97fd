"""The ledger: published once, in one order, whoever writes at the same time and whatever answer is lost."""

import datetime as dt
import threading
from dataclasses import replace

import pytest

from ecdctr.exceptions import AlreadyDone, InputError, NotReadyError
from ecdctr.lake.ledger import Ledger, LedgerEntry
from ecdctr.lake.tables import Lake

pytestmark = pytest.mark.spark

DAY = dt.date(2024, 1, 1)


def entry(version, day=DAY, **more):
    made = LedgerEntry(
        version=version, level="cpm", arm="plain", date=day, window_from=day - dt.timedelta(days=7), window_until=day,
        parents=("p1", "p2"), tables={"natural_samples": 3}, config_digest="c", code_version="0.1.0",
        feature_fingerprint="f", seed=1, ranks=2, artifact=version, digest=f"digest of {version}", metrics_json="{}",
    )  # fmt: skip
    return replace(made, **more)


@pytest.fixture
def ledger(spark, tmp_path):
    return Ledger(Lake(spark, tmp_path))


def test_what_is_published_comes_back_and_is_published_once(ledger):
    assert ledger.versions() == []
    first = entry("v1")
    published = ledger.commit_versions([first, entry("v2", DAY + dt.timedelta(days=7))])
    assert replace(published[0], seq=0, committed_at=None) == first
    assert [e.seq for e in published] == [1, 2]
    assert ledger.commit_version(first) == published[0]
    fresh = Ledger(ledger.lake)
    assert fresh.versions() == published == fresh.versions(level="cpm", arm="plain")
    assert fresh.versions(level="tpm") == []
    assert fresh.get("v2") == published[1]
    with pytest.raises(AlreadyDone, match="published already as v1"):
        ledger.commit_version(entry("v3"))
    with pytest.raises(NotReadyError, match="v9"):
        ledger.get("v9")


def test_an_alias_moves_only_from_where_the_caller_believes_it(ledger):
    ledger.commit_versions([entry("v1"), entry("v2", DAY + dt.timedelta(days=7))])
    ledger.set_alias("serving", "v1", None)
    with pytest.raises(InputError, match="points to v1, expected None"):
        ledger.set_alias("serving", "v2", None)
    with pytest.raises(NotReadyError, match="v9"):
        ledger.set_alias("serving", "v9", "v1")
    ledger.set_alias("serving", "v2", "v1")
    assert Ledger(ledger.lake).alias("serving") == "v2"
    assert ledger.aliases() == {"serving": "v2"}
    ledger.set_alias("serving", "v1", "v2")
    assert Ledger(ledger.lake).trail("serving") == ["v1"]
    assert [(e.version, e.seq) for e in ledger.versions()] == [("v1", 1), ("v2", 2)]


def test_writers_at_the_same_time_all_publish_and_one_moves_the_alias(ledger):
    ledger.commit_version(entry("v0"))
    outcomes = []

    def publish(number):
        mine = Ledger(ledger.lake)
        mine.commit_version(entry(f"w{number}", DAY + dt.timedelta(days=number)))
        try:
            mine.set_alias("serving", f"w{number}", None)
            outcomes.append(number)
        except InputError:
            pass

    writers = [threading.Thread(target=publish, args=(number,)) for number in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert {e.version for e in ledger.versions()} == {"v0", "w1", "w2", "w3"}
    assert len(outcomes) == 1
    assert ledger.alias("serving") == f"w{outcomes[0]}"
    assert len({e.seq for e in ledger.versions()}) == 4


def test_a_commit_whose_answer_was_lost_counts_once(ledger, monkeypatch):
    from pyspark.errors import PySparkException

    real = ledger.lake.append

    def lost(*args, **options):
        real(*args, **options)
        raise PySparkException("the connection broke")

    monkeypatch.setattr(ledger.lake, "append", lost)
    assert ledger.commit_version(entry("v1")).version == "v1"
    monkeypatch.undo()
    assert [e.version for e in Ledger(ledger.lake).versions()] == ["v1"]
