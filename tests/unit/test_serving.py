"""A served file gives the probabilities of the model it was made from: every backbone, both formats, AutoFT compiled and whole."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from ecdctr.config.schema import AutoftConfig
from ecdctr.data.batch import Batch
from ecdctr.exceptions import IntegrityError, NotReadyError
from ecdctr.models.registry import build
from ecdctr.nn.policy import LearnedPolicy
from ecdctr.scoring.compiled import account, settled
from ecdctr.scoring.parity import Expected, check, expected
from ecdctr.scoring.program import ABOUT, load, parameters, trace, write
from ecdctr.scoring.serving import ServingModel, columns_of
from ecdctr.transfer.aggregate import aggregate
from ecdctr.transfer.autoft import AutoFT, decisions
from ecdctr.transfer.fine_tuning import fine_tune
from ecdctr.transfer.frozen_tower import FrozenTower
from ecdctr.transfer.snapshots import HistoricalEmbeddings, SnapshotFiles
from tests.unit.test_autoft import FEATURES, FULL, ROWS, backbone, batches, pretrained
from tests.unit.test_settle import Told

pytestmark = pytest.mark.unit

DAY = 25
JOINT = ["mmoe", "ple", "star", "minet"]


@pytest.fixture(scope="module")
def history(tmp_path_factory) -> HistoricalEmbeddings:
    """Snapshots that end at days 10, 20 and 30; a request of day 25 sees two of them."""
    root, files = tmp_path_factory.mktemp("snapshots"), []
    for until, rows in ((10, 14), (20, 22), (30, 30)):
        generator, folder = np.random.default_rng(until), root / str(until)
        folder.mkdir()
        for entity in ("user", "item"):
            np.save(folder / f"{entity}.npy", generator.standard_normal((rows, 3)).astype(np.float32))
            np.save(folder / f"{entity}_present.npy", generator.random(rows) > 0.3)
        files.append(SnapshotFiles(until, folder))
    return HistoricalEmbeddings(files, 2, "as_of")


def requests(history: HistoricalEmbeddings | None) -> list[Batch]:
    """Rows as requests of one day, ids beyond all vocabularies among them; a batch of one row, one without a click."""
    made = batches(seed=11, steps=3)
    made[0].ids[:4] += 1000
    made[0].sequences["clicked"][5:9] += 1000
    made[1] = made[1].slice(0, 1)
    made[2].sequences = {"clicked": torch.zeros(32, 1, dtype=torch.int64)}
    for batch in made:
        batch.day, batch.history = torch.full_like(batch.day, DAY), {}
        if history is not None:
            history.attach(batch)
    return made


def joint(name: str):
    options = {"natural_clicks": "clicked", "ad_clicks": "clicked"} if name == "minet" else {}
    return moved(build(name, features=FEATURES, rows=ROWS, seed=4, embedding_dim=4, **options))


def moved(model):
    """Parameters, statistics and rows away from where they begin."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers(), model.tables.weight]:
            if tensor.is_floating_point():
                tensor.mul_(1 + (torch.rand(tensor.shape, generator=generator) - 0.5) * 0.4)
    return model


def routed(told, name: str = "dcnv2") -> AutoFT:
    """AutoFT whose two ways differ, with policies that are told; 0.5: it depends on the row."""
    names = decisions(pretrained(name))
    return AutoFT(moved(pretrained(name)), Told([told(each) for each in names]), names, frozen=pretrained(name)).eval()


def learned(kind: str, name: str = "dcnv2") -> AutoFT:
    """AutoFT with a policy of its own, whose choices depend on the row."""
    model = fine_tune(backbone(name), kind, AutoftConfig(), seed=4)
    for way, values in ((model.tuned, moved(pretrained(name))), (model.frozen, pretrained(name))):
        way.load_network_state(values.network_state())
        way.tables.weight.copy_(values.tables.weight)
    return model.eval()


def tower() -> FrozenTower:
    target = build("dcnv2", features=FEATURES, rows=ROWS, seed=4, embedding_dim=4, hidden_units=[16, 8])
    rows = {f"source.{vocabulary}": count - 2 for vocabulary, count in ROWS.items()}
    source = build(
        "dcnv2", features=FEATURES.of_source(), rows=rows | {"source.hour": 26}, seed=9, embedding_dim=4, hidden_units=[16, 8],
    )  # fmt: skip
    return moved(FrozenTower(target, source))


def served(model, history, folder, *forms: str):
    """Write a model, hold each file to it, and give what was found."""
    rows = requests(history)
    wanted = expected(model.eval(), rows)
    program = trace(ServingModel(model, history, DAY), FEATURES)
    for form in forms or ("pt2",):
        path = folder / f"model.{form}"
        write(program, path, form, {"inputs": {name: [] for name in FEATURES.columns}, "version": "v"})
        parity = check(load(path, form), rows, FEATURES, wanted, 1e-6)
        assert parity.rows + parity.tied_rows == sum(map(len, rows))
    return program, wanted


@pytest.mark.parametrize("name", FULL)
def test_every_backbone_is_served_as_it_scores(name, history, tmp_path):
    _, wanted = served(moved(pretrained(name)), history, tmp_path, "pt2", "onnx")
    # A file that gives one number for all rows would not be seen otherwise.
    assert wanted.probability.std() > 1e-3


@pytest.mark.parametrize("name", [*JOINT, "tower"])
def test_baselines_are_served_by_their_ad_head_alone(name, tmp_path):
    model = tower() if name == "tower" else joint(name)
    program, _ = served(model, None, tmp_path)
    # Towers and gates of the natural domain are no part of the file.
    assert not [key for key in program.state_dict if "towers.0" in key or "domains.0" in key]


@pytest.mark.parametrize("kind", ["autoft_field", "autoft_layer", "freeze"])
def test_policies_decide_in_the_file_as_in_the_model(kind, history, tmp_path):
    model = learned(kind)
    model(requests(history)[0])
    # Frozen is the same for all rows; a learned policy sends some of them either way.
    assert bool((model.choice.taken.std(0) > 0).any()) == (kind != "freeze")
    _, wanted = served(model, history, tmp_path)
    assert wanted.probability.std() > 1e-3


@pytest.mark.parametrize("name", FULL)
def test_autoft_around_every_backbone_is_served(name, history, tmp_path):
    model = learned("autoft", name)
    assert isinstance(model.policy, LearnedPolicy)
    model(requests(history)[0])
    taken = model.choice.taken
    assert 0 < taken.mean() < 1
    served(model, history, tmp_path)


def test_autoft_as_onnx(history, tmp_path):
    served(learned("autoft"), history, tmp_path, "onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    assert json.loads(session.get_modelmeta().custom_metadata_map[ABOUT])["version"] == "v"
    assert [node.name for node in session.get_inputs()] == FEATURES.columns
    assert [node.name for node in session.get_outputs()] == ["probability"]


COMPILED = {
    "all tuned": lambda name: 1.0,
    "all frozen": lambda name: 0.0,
    "fields tuned, layers frozen": lambda name: float(name.startswith("field.")),
    "one layer frozen": lambda name: {"layer.mlp.0": 0.0}.get(name, 0.5),
    "user frozen, rest open": lambda name: {"field.user_id": 0.0, "field.history.user": 0.0}.get(name, 0.5),
}


@pytest.mark.parametrize("told", COMPILED)
def test_what_is_always_decided_alike_is_gone_from_the_file(told, history, tmp_path):
    rows = requests(history)
    wanted = expected(routed(COMPILED[told]), rows)
    whole = routed(COMPILED[told])
    small, constant = settled(whole, rows)
    graph = ServingModel(small, history, DAY)
    done = account(whole, small, graph, constant, sum(map(len, rows)))
    program, full = trace(graph, FEATURES), trace(ServingModel(routed(COMPILED[told]), history, DAY), FEATURES)
    write(program, tmp_path / "small.pt2", "pt2", {})
    assert check(load(tmp_path / "small.pt2", "pt2"), rows, FEATURES, wanted, 1e-6).rows == sum(map(len, rows))
    assert {each.decision for each in done.dropped} - {"policy"} == set(constant)
    assert set(done.open) == set(whole.names) - set(constant)
    assert all(each.rows == sum(map(len, rows)) for each in done.dropped)
    always = {each.decision: each.always for each in done.dropped}
    assert {name: always[name] == "tuned" for name in constant} == constant
    # What is said to be gone is what the whole model's file has more, number by number.
    assert sum(each.parameters for each in done.dropped) == parameters(full) - parameters(program)
    if told == "one layer frozen":
        # One weight matrix, and four numbers of each column's normalisation.
        assert [each.parameters for each in done.dropped] == [whole.tuned.width * 16 + 4 * 16]


def test_a_learned_policy_is_gone_with_its_last_decision(history):
    model, rows = learned("autoft"), requests(history)
    with torch.no_grad():
        model.policy.network.layers[-1].bias.view(-1, 2)[:, 1] += 50
    small, constant = settled(model, rows)
    done = account(model, small, ServingModel(small, history, DAY), constant, 65)
    (policy,) = [each for each in done.dropped if each.decision == "policy"]
    assert policy.parameters == sum(p.numel() for p in model.policy.parameters())
    assert not done.open


def test_aggregated_vectors_are_those_of_the_request_s_day(history):
    model = pretrained()
    vectors = torch.cat([part for _, part in aggregate(model, history, "user", history.rows("user") + 1, DAY)])
    graph = ServingModel(model, history, DAY)
    assert torch.equal(graph.held["history_user"].weight, vectors)
    later = ServingModel(pretrained(), history, 30)
    assert not torch.equal(graph.held["history_user"].weight, later.held["history_user"].weight)


def test_columns_are_padded_to_their_length():
    (batch, *_) = requests(None)
    batch.sequences = {"clicked": torch.tensor([[7], [0]])}
    part = Batch(batch.ids[:2], batch.numbers[:2], batch.sequences, batch.label[:2], batch.weight[:2], batch.day[:2])
    columns = columns_of(part, FEATURES)
    assert list(columns) == FEATURES.columns
    assert columns["clicked"].tolist() == [[7, 0, 0, 0], [0, 0, 0, 0]]
    assert columns["price"].shape == (2,)


def test_a_file_that_differs_is_refused_and_says_by_how_much():
    rows = requests(None)
    count = sum(map(len, rows))
    wanted = Expected(np.full(count, 0.25), np.zeros(count, bool))
    wanted.tied[3] = True

    def off(amount: float, at: int):
        start = iter(np.cumsum([0, *map(len, rows)]))

        def predict(columns):
            first, found = next(start), np.full(len(columns["price"]), 0.25)
            if first <= at < first + len(found):
                found[at - first] += amount
            return found

        return predict

    assert check(off(1e-6, 40), rows, FEATURES, wanted, 1e-5).max_difference == pytest.approx(1e-6)
    with pytest.raises(IntegrityError, match=r"differs from the model by 0.01 in probability on 64 rows, 1e-05"):
        check(off(0.01, 40), rows, FEATURES, wanted, 1e-5)
    with pytest.raises(IntegrityError, match="nan"):
        check(off(np.nan, 40), rows, FEATURES, wanted, 1e-5)
    # A choice that rounding decides is no fault of the file; it is told apart.
    tied = check(off(0.01, 3), rows, FEATURES, wanted, 1e-5)
    assert (tied.rows, tied.tied_rows, tied.tied_max_difference) == (64, 1, pytest.approx(0.01))


def test_without_rows_there_is_nothing_to_hold_a_file_to():
    with pytest.raises(NotReadyError, match="no rows"):
        expected(pretrained(), [])
