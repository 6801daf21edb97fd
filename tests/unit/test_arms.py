"""Arms as data: which CPM versions they share, and what an arm changes of the configuration."""

import dataclasses
from pathlib import Path
from typing import get_args

import pytest

from ecdctr.config import load_config
from ecdctr.config.schema import ArmName
from ecdctr.models.registry import MODELS, options_of
from ecdctr.pipelines.arms import ARMS, twins

pytestmark = pytest.mark.unit

SIMULATED = Path(__file__).parents[2] / "conf" / "datasets" / "simulated.yml"


def config(*overrides: str):
    return load_config(SIMULATED, list(overrides))


def twin(name: str, *overrides: str):
    return ARMS[name].twin(config(*overrides))


def test_the_configuration_knows_every_arm_and_no_other():
    assert set(get_args(ArmName)) == set(ARMS)
    assert all(name == arm.name and arm.title for name, arm in ARMS.items())


def test_arms_that_differ_after_pre_training_alone_share_one_cpm():
    shared = {twin(name) for name in ("ecdctr", "ecdctr_bn_keep", "ecdctr_bn_statistics", "ecdctr_no_cpm")}
    assert len(shared) == 1
    assert twin("finetune") == twin("ecdctr_no_tpm") == twin("target_only")


def test_ways_of_fine_tuning_share_the_cpm_of_their_kind():
    plain = {
        twin(name) for name in ("autoft", "autoft_field", "autoft_layer", "autoft_random", "autoft_prior", "finetune")
    }
    assert len(plain) == 1
    assert twin("ecdctr_autoft") == twin("ecdctr")
    named = {name: arm.policy for name, arm in ARMS.items() if arm.policy is not None}
    assert named == {
        "finetune": "full", "finetune_table_state": "full", "autoft_prior": "autoft", "ecdctr_autoft_prior": "autoft",
        "ecdctr_autoft_steady": "autoft",
        "autoft": "autoft", "autoft_field": "autoft_field", "autoft_layer": "autoft_layer",
        "autoft_random": "autoft_random", "ecdctr_autoft": "autoft",
    }  # fmt: skip
    assert all(arm.pretrained for arm in ARMS.values() if arm.policy is not None)


def test_arms_whose_cpm_reads_otherwise_have_their_own():
    names = (
        "ecdctr", "ecdctr_no_tpm", "ecdctr_snapshots_1", "ecdctr_snapshots_2", "ecdctr_pool_mean", "ecdctr_pool_concat",
        "ecdctr_latest_snapshot", "ecdctr_shuffled_embeddings", "ecdctr_gate", "ecdctr_history_dropout",
        "ecdctr_history_unit", "ecdctr_history_user", "ecdctr_history_item",
    )  # fmt: skip
    found = twins([ARMS[name] for name in (*names, "ecdctr_bn_keep", "target_only")], config())
    assert len(found) == len(names)
    assert len({found.name for found in found}) == len(names)


def test_an_arm_that_asks_for_what_is_configured_shares_the_usual_cpm():
    assert twin("ecdctr_pool_mean", "transfer.snapshot_pooling=mean") == twin(
        "ecdctr", "transfer.snapshot_pooling=mean"
    )
    assert twin("ecdctr_snapshots_2", "levels.tpm.snapshots=2").name == "history"
    assert twin("ecdctr_latest_snapshot", "transfer.snapshot_lookup=latest").name == "history"


def test_training_anew_each_day_is_a_cpm_of_its_own_unless_that_is_its_clock():
    usual, daily = twin("ecdctr"), twin("ecdctr_retrained")
    assert (daily.name, daily.every, usual.every) == ("history-every_1d", 1, config().levels.cpm.every)
    assert twin("ecdctr_retrained", "levels.cpm.every=1d") == twin("ecdctr", "levels.cpm.every=1d")


def test_gate_and_dropout_reach_the_model_and_are_configured_for_all_arms_with_history():
    options = {name: twin(name).options(config()) for name in ("ecdctr", "ecdctr_gate", "ecdctr_history_dropout")}
    told = {name: (found["history_gate"], found["history_dropout"]) for name, found in options.items()}
    assert told == {"ecdctr": (False, 0.0), "ecdctr_gate": (True, 0.0), "ecdctr_history_dropout": (False, 0.2)}
    changed = ("transfer.history_gate=true", "transfer.history_dropout=0.2")
    assert twin("ecdctr_gate", *changed) == twin("ecdctr_history_dropout", *changed) == twin("ecdctr", *changed)
    assert "history_gate" not in twin("target_only", *changed).options(config(*changed))


def test_snapshots_and_pooling_reach_the_model_and_the_look_up():
    reading = {name: twin(f"ecdctr_{name}").history for name in ("snapshots_1", "snapshots_2", "pool_concat")}
    assert (reading["snapshots_1"].count, reading["snapshots_2"].count) == (1, 2)
    options = twin("ecdctr_pool_concat").options(config())
    assert options["snapshot_pooling"] == "concat"
    assert options["history_count"] == config().levels.tpm.snapshots
    assert twin("ecdctr_latest_snapshot").history.lookup == "latest"
    assert twin("ecdctr").history.lookup == "as_of"


def test_remedies_change_what_they_name_and_nothing_when_it_is_configured():
    usual = twin("ecdctr").history
    assert twin("ecdctr_history_unit").history == dataclasses.replace(usual, unit_length=True)
    assert twin("ecdctr_history_item").history == dataclasses.replace(usual, of="item")
    assert twin("ecdctr_history_user").history == dataclasses.replace(usual, of="user")
    assert twin("ecdctr_history_item", "transfer.history_of=item").name == "history"
    assert twin("ecdctr_history_unit", "transfer.history_unit_length=true").name == "history"
    assert twin("ecdctr_table_state") == twin("ecdctr_autoft_prior") == twin("ecdctr")
    settings = config().transfer.autoft
    assert ARMS["autoft"].autoft(config()) == settings
    changed = settings.model_copy(update={"tuned_prior": 0.9, "policy_gain": 10.0})
    for name in ("autoft_prior", "ecdctr_autoft_prior", "ecdctr_autoft_steady"):
        assert ARMS[name].autoft(config()) == changed


def test_the_state_of_the_tables_decides_nothing_that_cpm_reads():
    one, other = config(), config("transfer.table_state=copied")
    assert one.model_digest("cpm") == other.model_digest("cpm")
    assert one.model_digest("actr") != other.model_digest("actr")


def test_wide_doubles_the_embeddings_and_nothing_else():
    usual, wide = (twin(name).options(config()) for name in ("target_only", "target_only_wide"))
    assert wide.pop("embedding_dim") == 2 * usual.pop("embedding_dim")
    assert wide == usual


def test_arms_on_a_frozen_natural_model_share_the_cpm_without_historical_embeddings():
    found = twins([ARMS[name] for name in ("frozen_features", "frozen_tower", "mmoe", "finetune")], config())
    assert [each.name for each in found] == ["plain"]
    assert ARMS["frozen_features"].options(config())["snapshot_pooling"] == "mean"


@pytest.mark.parametrize("name", ["mmoe", "ple", "star"])
def test_options_of_joint_arms_are_those_of_their_models(name):
    assert twins([ARMS[name]], config()) == []
    changed = config("model.embedding_dim=5", "model.dropout=0.25")
    options = ARMS[name].options(changed)
    # `build` itself takes those.
    assert options.keys() - {"embedding_dims"} <= options_of(MODELS[name])
    assert options.items() >= {"embedding_dim": 5, "dropout": 0.25}.items()
    assert options.items() >= getattr(changed.joint, name).model_dump().items()
