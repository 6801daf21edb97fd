"""`ecdctr export`: from a published version to a file that an inference server runs, or to one clear error and no file."""

import datetime as dt
import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ecdctr.artifacts.files import new_file
from ecdctr.artifacts.store import ArtifactStore
from ecdctr.exceptions import InputError, IntegrityError
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.pipelines.clock import EPOCH
from ecdctr.scoring.batch_scores import batch_of
from ecdctr.scoring.program import ABOUT
from ecdctr.training.published import opened
from ecdctr.training.structure import FILE, Structure
from ecdctr.training.task import ExpiredIds, History, Snapshot, Start
from ecdctr.transfer.aggregate import aggregate
from tests.unit.test_cli import SIMULATED, call
from tests.unit.test_level_autoft import FEATURES, Days

pytestmark = pytest.mark.unit

SCORED = 2
EXPIRED = {"user_id": [7, 20, 33], "item_id": [5, 9, 24]}


def day(number: int) -> dt.date:
    return EPOCH + dt.timedelta(days=number)


class Warehouse(Days):
    """CPM of day 0 and ad models of day 1 that have scored day 2, in a store and a ledger."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.store = ArtifactStore(root / "store")
        self.entries: list[LedgerEntry] = []
        self.alias: str | None = None
        self.config = SimpleNamespace(seed=1, arms=["ecdctr"])
        self.ledger = SimpleNamespace(versions=self._versions, alias=lambda name: self.alias)
        snapshots = [self._snapshot(until, rows) for until, rows in ((0, 12), (1, 20), (9, 30))]
        history = History(snapshots=snapshots, count=2, lookup="as_of", dim=4)
        self._make("cpm", 0, Start(kind="scratch"), None, history)
        warm = self.start("warm", "cpm", batch_norm="full")
        for name, arm, policy in (
            ("plain", "ecdctr", None), ("chosen", "ecdctr_autoft", "autoft"), ("head", "autoft", "freeze"),
            ("coins", "autoft_random", "autoft_random"),
        ):  # fmt: skip
            self._make(name, 1, warm, policy, history, arm)
        self._make("lapsed", 1, warm, "autoft", history, "ecdctr_no_tpm", self._expired())

    def _snapshot(self, until: int, rows: int) -> Snapshot:
        version, generator = f"tpm-{until}", np.random.default_rng(until)
        with self.store.publish(version, {}) as folder:
            for entity in ("user", "item"):
                np.save(folder / f"{entity}.npy", generator.standard_normal((rows, 4)).astype(np.float32))
                np.save(folder / f"{entity}_present.npy", generator.random(rows) > 0.3)
        return Snapshot(version=version, until_day=until, folder=str(self.folder(version)), digest="x")

    def _expired(self) -> ExpiredIds:
        folder = self.root / "expired"
        for name, ids in EXPIRED.items():
            (folder / f"field={name}").mkdir(parents=True)
            pq.write_table(pa.table({"id": pa.array(ids, pa.int64())}), folder / f"field={name}" / "part.parquet")
        return ExpiredIds(folder=str(folder), digest="d", counts={name: len(ids) for name, ids in EXPIRED.items()})

    def _make(self, version, at, start, policy, history, arm="twin", expired=None) -> None:
        task = self.task(version, at, start, policy=policy)
        # Steps large enough that ways, rows and choices differ.
        training = task.training.model_copy(update={"dense_learning_rate": 0.05, "epochs": 2})
        task = task.model_copy(update={"history": history, "training": training, "expired": expired})
        record = self.train(task)
        level = "cpm" if version == "cpm" else "actr"
        self.entries.append(
            LedgerEntry(
                version=version,
                level=level,
                arm=arm,
                date=day(SCORED),
                window_from=day(at),
                window_until=day(SCORED),
                parents=(),
                tables={},
                config_digest="d",
                code_version="",
                feature_fingerprint="",
                seed=1,
                ranks=1,
                artifact=version,
                digest=record["digest"],
            )
        )

    def _versions(self, level=None, arm=None):
        return [e for e in self.entries if level in (None, e.level) and arm in (None, e.arm)]

    def model_digest(self, level: str) -> str:
        return "d"

    def refuse_other_generation(self, entry: LedgerEntry) -> None:
        pass

    def pinned(self, table: str):
        assert table == "ad_samples"
        files = [
            SimpleNamespace(path=str(path), rows=128, event_date=day(int(path.stem.split("-")[0])))
            for path in sorted((self.root / "data").glob("*.parquet"))
        ]
        return SimpleNamespace(files=files)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Warehouse:
    return Warehouse(tmp_path_factory.mktemp("warehouse"))


@pytest.fixture
def warehouse(made, monkeypatch) -> Warehouse:
    @contextmanager
    def opened(config):
        yield made

    monkeypatch.setattr("ecdctr.pipelines.workspace.workspace", opened)
    monkeypatch.setattr(made, "alias", None)
    return made


def export(out: Path, *more: str) -> tuple[int, dict]:
    code, printed, _ = call("export", str(out), "--config", SIMULATED, "--json", *more)
    return code, json.loads(printed.strip().splitlines()[-1])


def requests(warehouse: Warehouse) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The columns of the day that versions have scored, by event, and their events."""
    parts = sorted((warehouse.root / "data").glob(f"{SCORED}-*.parquet"))
    table = pa.concat_tables([pq.read_table(part) for part in parts]).sort_by("event_id")
    columns = {name: table[name].to_numpy() for name in FEATURES.columns}
    columns["price"] = columns["price"].astype(np.float32)
    return columns, table["event_id"].to_numpy()


@pytest.mark.parametrize("version", ["plain", "chosen", "head", "lapsed"])
def test_onnxruntime_gives_the_predictions_that_the_version_has_stored(version, warehouse, tmp_path):
    out = tmp_path / "new" / "model.onnx"
    code, answer = export(out, "--level", "actr", "--format", "onnx", "--version", version)
    assert (code, answer["status"]) == (0, "ok")
    stored = warehouse.scores(version)
    columns, events = requests(warehouse)
    assert stored["event_id"].to_pylist() == events.tolist()
    session = onnxruntime.InferenceSession(str(out))
    assert all(np.isin(columns[name], ids).any() for name, ids in EXPIRED.items())
    (served,) = session.run(["probability"], columns)
    np.testing.assert_allclose(served, stored["probability"].to_numpy(), atol=1e-6)
    assert served.std() > 1e-3
    # One row at a time, as a server would ask.
    (one,) = session.run(["probability"], {name: column[7:8] for name, column in columns.items()})
    np.testing.assert_allclose(one, served[7:8], atol=1e-6)
    result = answer["result"]
    # The days before and the scored day; none after it.
    assert result["parity"]["rows"] + result["parity"]["tied_rows"] == 3 * 256
    assert result["parity"]["max_difference"] <= result["parity"]["tolerance"] == 1e-5
    assert result["bytes"] == out.stat().st_size
    about = json.loads(session.get_modelmeta().custom_metadata_map[ABOUT])
    assert about == {key: result[key] for key in about}
    assert about["version"] == version
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("version", ["plain", "chosen", "head", "lapsed"])
def test_a_version_that_is_opened_gives_the_predictions_that_it_has_stored_and_one_vector_per_id(version, warehouse):
    stored, (columns, events) = warehouse.scores(version), requests(warehouse)
    found = opened(str(warehouse.folder(version)), str(warehouse.store.root))
    rows = pa.RecordBatch.from_pydict(columns | {"day": np.full(len(events), SCORED)})
    probabilities = found.probabilities(batch_of(rows, found.features))
    np.testing.assert_allclose(probabilities, stored["probability"].to_numpy(), atol=1e-6)
    for entity in ("user", "item"):
        count = found.history.rows(entity)
        vectors, known = found.aggregated(entity, torch.arange(count), SCORED)
        assert 0 < known.sum() < count
        assert len(vectors[~known].unique(dim=0)) == 1
        ways = [found.model.tuned, found.model.frozen] if version != "plain" else [found.model]
        for place, way in enumerate(ways):
            ((_, wanted),) = aggregate(way, found.history, entity, count, SCORED)
            assert torch.equal(vectors[:, 4 * place : 4 * (place + 1)], wanted)
    assert opened(str(warehouse.folder(version)), str(warehouse.store.root)) is found


def test_compiling_shrinks_the_file_and_says_what_went_on_how_many_rows(warehouse, tmp_path):
    small, whole = tmp_path / "small.pt2", tmp_path / "whole.pt2"
    _, compiled = export(small, "--format", "pt2", "--version", "head", "--rows", "300")
    _, kept = export(whole, "--format", "pt2", "--version", "head", "--no-compile")
    found = compiled["result"]["policies"]
    assert found["rows"] == 300
    assert found["open"] == []
    always = {each["decision"]: each["always"] for each in found["dropped"]}
    assert always["layer.mlp.1"] == "tuned"
    assert set(always.values()) - {None} == {"tuned", "frozen"}
    assert kept["result"]["policies"] == {
        "rows": 0,
        "dropped": [],
        "open": [name for name in always if name != "policy"],
    }
    gone = sum(each["parameters"] for each in found["dropped"])
    assert gone == kept["result"]["parameters"] - compiled["result"]["parameters"] > 0
    assert small.stat().st_size < whole.stat().st_size - 4 * gone + 4096
    said: dict[str, str] = {ABOUT: ""}
    torch.export.load(small, extra_files=said)
    assert json.loads(said[ABOUT])["policies"] == found


def test_for_people_a_table_of_what_was_dropped(warehouse, tmp_path):
    code, out, _ = call(
        "export", str(tmp_path / "m.pt2"), "--config", SIMULATED, "--format", "pt2", "--version", "head"
    )
    assert code == 0
    assert "layer.mlp.1" in out
    assert "judged on 768 rows" in out


def test_the_newest_version_of_the_first_arm_unless_one_is_said_to_serve(warehouse, tmp_path, monkeypatch):
    out = tmp_path / "m.pt2"
    assert export(out, "--format", "pt2")[1]["result"]["version"] == "plain"
    assert export(out, "--format", "pt2", "--arm", "ecdctr_autoft")[1]["result"]["version"] == "chosen"
    monkeypatch.setattr(warehouse, "alias", "head")
    assert export(out, "--format", "pt2")[1]["result"]["version"] == "head"
    assert export(out, "--format", "pt2", "--version", "plain")[1]["result"]["version"] == "plain"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--version", "plane"), 2, "did you mean plain?"),
        (("--version", "cpm"), 2, "level cpm, which does not serve"),
        (("--version", "plain", "--arm", "ecdctr_autoft"), 2, "plain is of arm ecdctr, but --arm ecdctr_autoft"),
        (("--arm", "ecdtr"), 2, "did you mean ecdctr?"),
        (("--arm", "finetune"), 3, "no version of level actr and arm finetune"),
        (("--arm", "autoft_random"), 2, "tosses a coin"),
        (("--level", "tpm"), 2, "level 'tpm' does not serve"),
        (("--format", "onxx"), 2, "choose one of onnx, pt2"),
        (("--rows", "0"), 2, "must be above 0"),
    ],
)
def test_a_mistake_gives_one_message_and_no_file(arguments, code, said, warehouse, tmp_path):
    found, answer = export(tmp_path / "model.onnx", *arguments)
    assert found == code
    assert said in answer["error"]["message"] + str(answer["error"]["hint"])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_differs_from_its_model_leaves_the_earlier_one(warehouse, tmp_path, monkeypatch):
    out = tmp_path / "model.pt2"
    out.write_bytes(b"the one that serves")
    monkeypatch.setattr("ecdctr.pipelines.export.load", lambda *_: lambda columns: np.full(len(columns["price"]), 0.9))
    code, answer = export(out, "--format", "pt2")
    assert (code, answer["error"]["type"]) == (1, "IntegrityError")
    assert "1e-05 is tolerated" in answer["error"]["message"]
    assert out.read_bytes() == b"the one that serves"
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_a_place_that_cannot_be_written(warehouse, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in export(tmp_path / "file" / "model.onnx")[1]["error"]["message"]
    code, answer = export(tmp_path)
    assert code == 2
    assert "is a folder" in answer["error"]["message"]


def test_damaged_and_missing_versions_are_named(made, tmp_path):
    folder = made.folder("plain")
    assert Structure.read(folder).history.snapshots[0].folder == "tpm-0"
    with pytest.raises(IntegrityError, match="nobody does not say how it is built"):
        Structure.read(tmp_path / "nobody")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / FILE).write_text("{}")
    with pytest.raises(IntegrityError, match="odd does not say how it is built"):
        Structure.read(tmp_path / "odd")


def damage(path: Path) -> Callable[[], object]:
    """Turn one bit of a file; gives what turns it back."""
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    return lambda: path.write_bytes(whole)


def lose(path: Path) -> Callable[[], object]:
    """Take a folder away; gives what puts it back."""
    away = path.with_name(f"away-{path.name}")
    path.rename(away)
    return lambda: away.rename(path)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda made: damage(made.folder("plain") / "network.safetensors"), "network.safetensors differs from its recorded digest"),
        (lambda made: damage(made.folder("tpm-0") / "user.npy"), "version tpm-0: user.npy differs from its recorded digest"),
        (lambda made: lose(made.folder("tpm-1")), "plain cannot serve: the files of tpm-1, which it was made from, are gone"),
        (lambda made: lose(made.folder("cpm")), "plain cannot serve: the files of cpm, which it was made from, are gone"),
        (lambda made: lose(made.folder("plain")), "plain cannot serve: its files are gone"),
    ],
)  # fmt: skip
def test_what_promote_would_refuse_is_not_exported_either(broken, said, warehouse, tmp_path, monkeypatch):
    plain = next(entry for entry in warehouse.entries if entry.version == "plain")
    others = [entry for entry in warehouse.entries if entry.version != "plain"]
    monkeypatch.setattr(warehouse, "entries", [*others, replace(plain, parents=("cpm",))])
    out = tmp_path / "model.pt2"
    out.write_bytes(b"the one that serves")
    mend = broken(warehouse)
    try:
        code, answer = export(out, "--format", "pt2", "--version", "plain")
    finally:
        mend()
    assert (code, answer["error"]["type"]) == (1, "IntegrityError")
    assert said in answer["error"]["message"]
    assert out.read_bytes() == b"the one that serves"
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_a_parent_that_the_ledger_does_not_have_is_named(warehouse, tmp_path, monkeypatch):
    plain = next(entry for entry in warehouse.entries if entry.version == "plain")
    monkeypatch.setattr(warehouse, "entries", [replace(plain, parents=("nobody",))])
    code, answer = export(tmp_path / "model.pt2", "--format", "pt2", "--version", "plain")
    assert code == 1
    assert "plain was made from nobody, which the ledger does not have" in answer["error"]["message"]


def test_an_interrupted_write_leaves_nothing_and_the_earlier_file(tmp_path):
    target = tmp_path / "deep" / "model.onnx"
    with new_file(target, ".onnx") as path:
        assert path.suffix == ".onnx"
        path.write_text("one")

    def interrupted():
        with new_file(target) as path:
            path.write_text("two")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        interrupted()
    assert target.read_text() == "one"
    assert [file.name for file in target.parent.iterdir()] == ["model.onnx"]
    with pytest.raises(InputError, match="is a folder"), new_file(tmp_path):
        pass
