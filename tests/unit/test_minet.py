"""MiNet against its paper's formula, written out row by row; and what it asks of the features."""

import dataclasses
import inspect
from pathlib import Path

import pytest
import torch

from ecdctr.config import load_config
from ecdctr.config.training import TrainingConfig
from ecdctr.data.batch import Batch
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.single import SingleProcess
from ecdctr.exceptions import ConfigError
from ecdctr.features import FeatureSet
from ecdctr.features.domains import AD, NATURAL
from ecdctr.models.minet import MiNet
from ecdctr.models.registry import build
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.workspace import Workspace
from ecdctr.training.trainer import Trainer
from tests.unit.test_models_joint import lively, mlp

pytestmark = pytest.mark.unit

SIMULATED = Path(__file__).parents[2] / "conf" / "datasets" / "simulated.yml"
ROWS = {"user_id": 40, "item_id": 25, "category": 12}
LISTS = {"seen": 4, "seen_category": 4, "bought": 3, "marks": 2}
FEATURES = FeatureSet(
    id_fields=("user_id", "item_id", "category"),
    number_fields=("price",),
    sequence_fields=LISTS,
    vocabulary_of={"user_id": "user_id", "item_id": "item_id", "category": "category", "seen": "item_id", "seen_category": "category", "bought": "item_id", "marks": "category"},
    fixed_rows={},
    oov_buckets=dict.fromkeys(ROWS, 1),
    attention={"seen": "item_id", "seen_category": "category", "bought": "item_id"},
    aligned={"seen_category": "seen"},
)  # fmt: skip


def make(**options) -> MiNet:
    clicks = {"natural_clicks": "seen", "ad_clicks": "bought"}
    sizes = {"embedding_dim": 4, "tower_units": [6, 5], "gate_units": [3], "attention_hidden_units": [5]}
    return build("minet", features=FEATURES, rows=ROWS, seed=5, **sizes | clicks | options)


def batch(rows: int = 14, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(3, n, (rows,), generator=generator) for n in ROWS.values()], 1)
    sequences, known = {}, torch.zeros(rows, 1)
    for name, length in LISTS.items():
        if name not in FEATURES.aligned:
            known = torch.randint(0, length + 1, (rows, 1), generator=generator)
        drawn = torch.randint(3, ROWS[FEATURES.vocabulary_of[name]], (rows, length), generator=generator)
        sequences[name] = torch.where(torch.arange(length) < known, drawn, 0)
    return Batch(
        ids=ids, numbers=torch.randn(rows, 1, generator=generator), sequences=sequences,
        label=((ids[:, 1] % 3) == 0).float(), weight=torch.ones(rows), day=torch.zeros(rows, dtype=torch.int64),
        domain=torch.randint(0, 2, (rows,), generator=generator),
    )  # fmt: skip


def reference(model: MiNet, data: Batch, row: int) -> torch.Tensor:
    tables = {name: model.tables.table(name) for name in ROWS}
    user, item, category = (tables[name][data.ids[row, at]] for at, name in enumerate(ROWS))

    def clicks(name: str) -> list[torch.Tensor]:
        return [int(i) for i in data.sequences[name][row] if i]

    seen = [
        tables["item_id"][i] + tables["category"][c]
        for i, c in zip(clicks("seen"), clicks("seen_category"), strict=True)
    ]
    bought = [tables["item_id"][i] for i in clicks("bought")]
    marks = [tables["category"][i] for i in clicks("marks")]
    mark = torch.stack(marks).mean(0) if marks else torch.zeros(4)

    def interest(attend, past, target) -> torch.Tensor:
        if not past:
            return torch.zeros(4)
        moved = [attend.transfer.weight @ r if attend.transfer is not None else r for r in past]
        scores = [
            mlp(attend.score, torch.cat([r, target, user, m * target]))[0] for r, m in zip(past, moved, strict=True)
        ]
        total = sum(score.exp() for score in scores)
        return sum(score.exp() / total * r for score, r in zip(scores, past, strict=True))

    about = torch.cat([item, category, mark, data.numbers[row]])
    p_s, p_t = interest(model.attend[0], seen, item + category), interest(model.attend[1], bought, item)
    if data.domain[row] == NATURAL:
        return mlp(model.towers[NATURAL], torch.cat([about, user]))[0]
    looked_at = torch.cat([about, user, p_s, p_t])
    weights = [mlp(network, looked_at)[0].exp() for network in model.gates.networks]
    weighed = [weight * part for weight, part in zip(weights, (user, p_s, p_t), strict=True)]
    return mlp(model.towers[AD], torch.cat([about, *weighed]))[0]


def test_logits_are_the_paper_s_formula():
    model, data = lively(make(batch_norm=False)).eval(), batch()
    assert (data.sequences["seen"] == 0).all(1).any()
    expected = torch.stack([reference(model, data, row) for row in range(len(data))])
    torch.testing.assert_close(model(data), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.05
    assert model.attend[0].transfer is not None
    assert model.attend[1].transfer is None


def test_rows_without_a_domain_are_ads_and_each_domain_has_its_own_bias():
    model, data = lively(make()).eval(), batch()
    ads = data.domain == AD
    torch.testing.assert_close(model(dataclasses.replace(data, domain=None))[ads], model(data)[ads])
    before = model(data)
    model.shift_logits(1.5, AD)
    torch.testing.assert_close(model(data) - before, 1.5 * ads.float(), rtol=1e-4, atol=1e-4)


def test_two_ranks_train_as_one_also_where_one_has_no_ad():
    data = [batch(seed=seed) for seed in range(3)]

    def share(collective):
        parts = []
        for whole in data:
            ads = (whole.domain == AD).nonzero().squeeze(1)
            others = (whole.domain == NATURAL).nonzero().squeeze(1)
            parts.append(whole.take(ads if collective.rank == 0 else others))
        model = make()
        model.attach(collective)
        Trainer(model, collective, TrainingConfig(), seed=2).fit(parts, 3)
        return model

    alone = make()
    alone.attach(SingleProcess())
    Trainer(alone, SingleProcess(), TrainingConfig(), seed=2).fit(data, 3)
    left, right = run_inline(2, share)
    for name, tensor in left.network_state().items():
        assert torch.equal(tensor, right.network_state()[name]), name
    torch.testing.assert_close(left.eval()(data[0]), alone.eval()(data[0]), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", ["kuairand_tabs", "kuairand", "kuairand_long", "digix2020"])
def test_shipped_configurations_have_the_clicks_of_each_domain_for_minet_and_no_other_arm_reads_them(name, monkeypatch):
    monkeypatch.setenv("ECDCTR_REAL_DATA", "/nowhere")
    config = load_config(SIMULATED.with_name(f"{name}.yml"), [])
    chosen = ARMS["minet"].options(config)
    assert chosen.items() >= {"natural_clicks": "natural_clicks", "ad_clicks": "ad_clicks"}.items()
    opened = Workspace(config)
    assert set(opened.all_features.sequence_fields) - set(opened.features.sequence_fields) == {
        "natural_clicks", "ad_clicks",
    }  # fmt: skip
    tree = config.model_dump(mode="json")
    given = tree["dataset"]["features"]
    tree["dataset"]["features"] = [feature for feature in given if feature.get("read_by") != "minet"]
    assert Workspace(type(config).model_validate(tree)).features == opened.features


def test_a_sequence_of_one_arm_takes_its_attributes_and_times_with_it():
    config = load_config(SIMULATED, [])
    tree = config.model_dump(mode="json")
    own = {"kind": "sequence", "domains": ["ad"], "read_by": "minet", "attributes": ["brand"], "times": True}
    tree["dataset"]["features"].append({"name": "past", **own})
    opened = Workspace(type(config).model_validate(tree))
    assert set(opened.all_features.sequence_fields) == {"clicked_items", "past", "past_brand", "past_times"}
    assert "past_times" in opened.all_features.fixed_rows
    assert opened.features == Workspace(config).features


def test_the_arm_takes_the_sequences_of_each_domain_from_the_features_and_says_which_is_missing():
    with pytest.raises(ConfigError, match=r"domains: \[natural\]"):
        ARMS["minet"].options(load_config(SIMULATED, []))
    config = load_config(SIMULATED, ["model.embedding_dim=5"])
    tree = config.model_dump(mode="json")
    for domain in ("natural", "ad"):
        tree["dataset"]["features"].append({"name": f"past_{domain}", "kind": "sequence", "domains": [domain]})
    options = ARMS["minet"].options(type(config).model_validate(tree))
    assert options.items() >= {"natural_clicks": "past_natural", "ad_clicks": "past_ad", "embedding_dim": 5}.items()
    # `build` itself takes those.
    assert options.keys() - {"embedding_dims"} <= set(inspect.signature(MiNet).parameters)


def test_a_sequence_that_samples_do_not_have_is_named():
    with pytest.raises(ConfigError, match="nothing"):
        make(natural_clicks="nothing")
