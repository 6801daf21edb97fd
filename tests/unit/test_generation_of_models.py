"""Models whose ids mean other tokens by now are not taken for published, and whoever needs one is told why."""

import json
from types import SimpleNamespace

import pytest

from ecdctr.exceptions import InputError
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.workspace import Workspace

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
