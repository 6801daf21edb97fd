"""Models whose ids mean other tokens by now are not taken for published, and whoever needs one is told why; none has ids of two."""

import datetime as dt
import json
from types import SimpleNamespace

import pytest

from ecdctr.config import load_config
from ecdctr.etl.preparation import Note
from ecdctr.exceptions import InputError, TemporaryError
from ecdctr.pipelines import workspace as workspaces
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.workspace import Workspace
from tests.unit.test_levels_baselines import SIMULATED

pytestmark = pytest.mark.unit


def entry(name, generation, digest, arm="ecdctr", seed=1):
    record = json.dumps({} if generation == 1 else {"vocabulary_generation": generation})
    return SimpleNamespace(
        version=name, level="cpm", arm=arm, seed=seed, date=name, config_digest=digest, metrics_json=record
    )


class Place:
    """A workspace over a ledger of given entries."""

    refuse_other_generation = Workspace.refuse_other_generation
    model_digest = Workspace.model_digest

    def __init__(self, generation, entries):
        self.config = SimpleNamespace(seed=1, model_digest=lambda level: "plain")
        self.generation = lambda: generation
        self.ledger = SimpleNamespace(
            versions=lambda level, arm: [e for e in entries if (e.level, e.arm) == (level, arm)]
        )


def test_versions_of_another_generation_are_left_out_and_refused():
    old = entry("old", 1, "plain")
    first = Publisher(Place(1, [old]))
    assert first.versions("cpm", "ecdctr") == [old]
    first.refuse_other_generation("cpm", "ecdctr")
    place = Place(2, [old, entry("other seed", 1, "plain", seed=2)])
    assert place.model_digest("cpm") not in ("plain", Place(3, []).model_digest("cpm"))
    second = Publisher(place)
    assert second.versions("cpm", "ecdctr") == []
    with pytest.raises(InputError, match="old was trained on vocabulary generation 1; the tables are of generation 2"):
        second.refuse_other_generation("cpm", "ecdctr")
    second.refuse_other_generation("cpm", "finetune")
    new = entry("new", 2, place.model_digest("cpm"))
    third = Publisher(Place(2, [old, new]))
    assert third.versions("cpm", "ecdctr") == [new]
    third.refuse_other_generation("cpm", "ecdctr")


TABLES = ("vocabulary", "natural_samples", "ad_samples")


def deal(root, version, generation, tables=TABLES):
    """Commit to tables as a preparation does, with ids of a generation."""
    day = dt.date(2024, 1, 1)
    note = Note(version, day, day, None, "", None, rest=False, generation=generation).to_json()
    first = [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": {"schemaString": "{}"}}]
    for table in tables:
        (root / table / "_delta_log").mkdir(parents=True, exist_ok=True)
        actions = [{"commitInfo": {"userMetadata": note}}, *([] if version else first)]
        (root / table / "_delta_log" / f"{version:020d}.json").write_text("\n".join(map(json.dumps, actions)))


@pytest.fixture
def opened(tmp_path):
    with Workspace(load_config(SIMULATED, [f"warehouse={tmp_path}"])) as workspace:
        deal(workspace.root, 0, 1)
        yield workspace


DATE = dt.date(2024, 1, 3)
READS = {
    "samples": lambda opened: opened.pinned("ad_samples"),
    "rows": lambda opened: opened.rows_until(DATE),
    "expired": lambda opened: opened.expired(DATE),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("within", [False, True])
def test_a_vocabulary_dealt_anew_between_two_looks_at_tables_ends_the_command(opened, monkeypatch, read, within):
    def look(*_):
        if within and opened.generation() == 1:
            deal(opened.root, 1, 2)
        return SimpleNamespace(version=0, rows_until=lambda date: {}, renew=lambda: True)

    monkeypatch.setattr(workspaces, "high_water_marks", look)
    monkeypatch.setattr(workspaces, "write_expired", look)
    if within:
        monkeypatch.setattr(opened.lake, "pin", look)
    assert opened.generation() == 1
    if not within:
        opened.pinned("natural_samples")
        deal(opened.root, 1, 2)
    for _ in range(2):
        with pytest.raises(TemporaryError, match="of vocabulary generation 2 by now; this command has begun with 1"):
            READS[read](opened)
    opened.forget_pins()
    READS[read](opened)
    assert opened.generation() == 2


def test_days_prepared_between_two_looks_at_tables_end_nothing(opened):
    assert opened.pinned("natural_samples").version == 0
    deal(opened.root, 1, 1)
    assert [opened.pinned(table).version for table in TABLES[1:]] == [0, 1]
