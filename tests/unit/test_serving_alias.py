"""Which version serves: the alias and its way back, and the versions that are refused before the ledger is touched."""

import datetime as dt
import json
from pathlib import Path

import pytest

from ecdctr.artifacts.store import ArtifactStore
from ecdctr.config import load_config
from ecdctr.exceptions import AlreadyDone, EcdctrError, InputError, IntegrityError, NotReadyError
from ecdctr.hooks import Hook, Hooks
from ecdctr.lake.ledger import Ledger
from ecdctr.lake.tables import Lake
from ecdctr.pipelines.inspect import list_models, show_model
from ecdctr.pipelines.serving import promote, rollback, serving_version
from ecdctr.pipelines.workspace import Workspace
from ecdctr.training.structure import Structure
from tests.unit.hand_made_tables import write_table
from tests.unit.test_cli import SIMULATED
from tests.unit.test_commit_order import FIELDS
from tests.unit.test_level_autoft import FEATURES

pytestmark = pytest.mark.unit

DAY = dt.date(2024, 3, 1)


def rows(*changes: tuple[str, dict]) -> list[list]:
    """The ledger's rows, by their kind."""
    made = []
    for seq, (version, given) in enumerate(changes, start=1):
        named: dict[str, object] = dict.fromkeys(FIELDS)
        named |= {
            "seq": seq, "kind": "alias" if "alias" in given else "version", "version": version, "level": "actr",
            "arm": "ecdctr", "date": DAY, "window_until": DAY, "parents": ["tpm"], "tables": {"ad_samples": 1},
            "artifact": version, "metrics_json": "{}", "committed_at": dt.datetime(2024, 5, 1, tzinfo=dt.UTC),
            "writer": f"w{seq}", "seed": 1, "config_digest": "c",
        }  # fmt: skip
        made.append(list((named | given).values()))
    return made


def moved(*versions: str) -> list[tuple[str, dict]]:
    return [(version, {"alias": "serving"}) for version in versions]


VERSIONS = [
    ("tpm", {"level": "tpm", "parents": ["older"]}), ("older", {"level": "tpm", "parents": ["older"]}),
    ("a", {}), ("b", {}), ("c", {"date": DAY + dt.timedelta(days=3), "window_until": DAY + dt.timedelta(days=3)}),
    ("orphan", {"parents": ["tpm", "nobody"]}), ("bare", {"artifact": "nowhere"}), ("damaged", {}), ("blind", {}),
    ("coins", {"arm": "autoft_random"}), ("dealt", {"metrics_json": json.dumps({"vocabulary_generation": 2})}),
]  # fmt: skip
STRUCTURE = {
    "features": dict(FEATURES.__dict__), "rows": {}, "backbone": "dnn", "options": {}, "seed": 1, "fine_tune": None, "tower": False,
}  # fmt: skip


def structure(version: str) -> Structure:
    tree: dict = STRUCTURE | {"history": None}
    if version == "blind":
        snapshot = {"version": "lost", "until_day": 1, "folder": "lost", "digest": ""}
        tree["history"] = {"snapshots": [snapshot], "count": 1, "lookup": "as_of", "dim": 4}
    if version == "coins":
        settings = load_config(Path(SIMULATED), []).transfer.autoft.model_dump()
        tree["fine_tune"] = {"kind": "autoft_random", "settings": settings}
    return Structure.model_validate(tree)


@pytest.fixture
def place(tmp_path):
    """Opens a warehouse whose ledger has some rows; it has no Spark to write with."""

    def opened(*aliases: str) -> Workspace:
        root = tmp_path / "warehouse" / "w"
        write_table(root, "ledger", FIELDS, [rows(*VERSIONS, *moved(*aliases))])
        store = ArtifactStore(root / "_artifacts")
        for version, _ in VERSIONS:
            if version != "bare":
                with store.publish(version, {}) as folder:
                    (folder / "network").write_text("weights")
                    structure(version).write(folder)
        (store.path("damaged") / "network").write_text("weighty")
        config = load_config(Path(SIMULATED), ["name=w", f"warehouse={tmp_path / 'warehouse'}"])
        found = Workspace(config)
        found.lake = Lake(lambda: pytest.fail("nothing is to be written"), root)
        return found

    return opened


@pytest.mark.parametrize(
    ("moves", "trail"),
    [
        ("", ""), ("a", "a"), ("ab", "ab"), ("aba", "a"), ("abab", "ab"), ("abcb", "ab"), ("abcba", "a"),
        ("abca", "abca"), ("abcac", "abc"), ("aab", "ab"),
    ],
)  # fmt: skip
def test_the_way_back_of_an_alias_never_comes_to_what_was_left(moves, trail, tmp_path):
    write_table(tmp_path, "ledger", FIELDS, [rows(*VERSIONS, *moved(*moves))])
    ledger = Ledger(Lake(lambda: pytest.fail("no Spark is needed"), tmp_path))
    assert ledger.trail("serving") == list(trail)
    assert ledger.alias("serving") == (trail[-1] if trail else None)
    assert ledger.aliases() == ({"serving": trail[-1]} if trail else {})


def test_what_is_promoted_serves_and_without_it_the_newest_of_the_first_arm(place, monkeypatch):
    workspace = place("b", "a")
    assert serving_version(workspace).version == "a"
    assert serving_version(workspace, "b").version == "b"
    assert [row["version"] for row in list_models(workspace) if row["serves"]] == ["a"]
    assert show_model(workspace, "a")["aliases"] == ["serving"]
    assert show_model(workspace, "b")["aliases"] == []
    monkeypatch.setattr(workspace.ledger, "alias", lambda name: None)
    monkeypatch.setattr(Workspace, "model_digest", lambda self, level: "c")
    workspace.config = workspace.config.model_copy(update={"seed": 1, "arms": ["ecdctr"]})
    assert serving_version(workspace).version == "c"
    assert serving_version(workspace, date=DAY).version != "c"
    with pytest.raises(NotReadyError, match=r"is published in .* for this configuration and seed by 2024-02-29"):
        serving_version(workspace, date=DAY - dt.timedelta(days=1))
    with pytest.raises(InputError, match="c was trained on days up to 2024-03-03"):
        serving_version(workspace, "c", date=DAY)


def test_a_named_version_must_be_of_the_named_arm(place):
    workspace = place("a")
    assert serving_version(workspace, "b", "ecdctr").version == "b"
    with pytest.raises(InputError, match="b is of arm ecdctr, but --arm finetune was given beside --version") as found:
        serving_version(workspace, "b", "finetune")
    assert "--arm finetune alone takes its newest version" in found.value.hint


@pytest.mark.parametrize(
    ("version", "kind", "said"),
    [
        ("aa", InputError, "no version 'aa'"),
        ("tpm", InputError, "level tpm, which does not serve"),
        ("orphan", IntegrityError, "was made from nobody, which the ledger does not have"),
        ("bare", IntegrityError, "bare cannot serve: its files are gone"),
        ("damaged", IntegrityError, "network differs from its recorded digest"),
        ("blind", IntegrityError, "blind cannot serve: the files of lost, which it was made from, are gone"),
        ("coins", InputError, "tosses a coin"),
        ("dealt", InputError, "trained on vocabulary generation 2; the tables are of generation 1"),
        ("b", AlreadyDone, "b serves already"),
    ],
)
def test_a_version_that_cannot_serve_is_refused_and_nothing_changes(place, version, kind, said):
    workspace = place("a", "b")
    with pytest.raises(kind, match=said):
        promote(workspace, version)
    assert workspace.ledger.trail("serving") == ["a", "b"]


@pytest.mark.parametrize(
    ("aliases", "left", "kind", "said"),
    [
        ((), None, InputError, "no version was ever promoted"),
        (("a",), None, InputError, "no version served before a"),
        (("a", "b"), "a", AlreadyDone, "a does not serve; b does"),
        (("a", "b"), "x", InputError, "no version 'x'"),
        (("damaged", "b"), "b", IntegrityError, "differs from its recorded digest"),
    ],
)
def test_where_there_is_nothing_to_go_back_to_nothing_changes(place, aliases, left, kind, said):
    workspace = place(*aliases)
    with pytest.raises(kind, match=said):
        rollback(workspace, left)


def test_promotions_and_rollbacks_are_one_row_each(place, monkeypatch):
    written: list[tuple[str, str | None]] = []
    workspace = place("a", "b")
    monkeypatch.setattr(workspace.ledger, "set_alias", lambda name, version, before: written.append((version, before)))
    assert promote(workspace, "c") == {"version": "c", "arm": "ecdctr", "date": "2024-03-04", "before": "b"}
    assert rollback(workspace, "b")["version"] == "a"
    assert written == [("c", "b"), ("a", "b")]


def test_hooks_hear_which_version_serves_once_it_does(place, monkeypatch):
    heard: list = []

    class Fleet(Hook):
        def after_promote(self, event):
            heard.append((event.version, event.arm, event.date, event.before))

    workspace = place("a", "b")
    workspace.hooks = Hooks(given=[Fleet()])
    with pytest.raises(IntegrityError):
        promote(workspace, "damaged")
    monkeypatch.setattr(workspace.ledger, "set_alias", lambda name, version, before: heard.append("written"))
    promote(workspace, "c")
    rollback(workspace)
    day = DAY + dt.timedelta(days=3)
    assert heard == ["written", ("c", "ecdctr", day, "b"), "written", ("a", "ecdctr", DAY, "b")]


def test_every_refusal_says_what_to_do(place):
    workspace = place()
    for version in ("orphan", "bare", "blind", "coins", "tpm"):
        with pytest.raises(EcdctrError) as found:
            promote(workspace, version)
        assert found.value.hint
