"""Every backbone at every full level: CPM with historical embeddings, the ad model from it, by AutoFT and without."""

import numpy as np
import pytest
from safetensors.torch import load_file

from ecdctr.training.level import NETWORK
from ecdctr.training.task import History, Snapshot, Start
from tests.unit.test_autoft import FULL
from tests.unit.test_level_autoft import Days

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("backbone", FULL)
def test_a_backbone_is_cpm_then_the_ad_model_then_autoft(backbone, tmp_path):
    days = Days(tmp_path / "days")
    folder = days.folder("tpm")
    folder.mkdir(parents=True)
    for entity in ("user", "item"):
        np.save(folder / f"{entity}.npy", np.random.default_rng(1).standard_normal((20, 4)).astype(np.float32))
        np.save(folder / f"{entity}_present.npy", np.arange(20) > 3)
    snapshot = Snapshot(version="tpm", until_day=0, folder=str(folder), digest="x")
    given = {"history": History(snapshots=[snapshot], count=1, lookup="as_of", dim=4), "backbone": backbone}

    def train(version, at, start, policy):
        return days.train(days.task(version, at, start, policy=policy).model_copy(update=given))

    cpm = train("cpm", 0, Start(kind="scratch"), None)
    warm = days.start("warm", "cpm", batch_norm="full", log_odds=cpm["log_odds"])
    plain, chosen = train("plain", 1, warm, None), train("chosen", 1, warm, "autoft")
    assert plain["moved"]["copied"] == chosen["moved"]["copied"]
    assert {"pooling.user.query.weight", "projection.item.weight", "tables.user_id"} <= set(plain["moved"]["copied"])
    assert all(name.rsplit(".", 1)[1] in ("weight", "bias") or "running" in name or "tracked" in name
               for name in plain["moved"]["reinitialised"])  # fmt: skip
    assert plain["moved"]["skipped"] == []
    # The attention across snapshots is learned in CPM and goes on being learned in the ad model.
    before, after = load_file(days.folder("cpm") / NETWORK), load_file(days.folder("plain") / NETWORK)
    assert not np.array_equal(before["projection.user.weight"], after["projection.user.weight"])
    assert sum(chosen["policies"]["rows"].values()) == 256
    assert chosen["parameters"] > plain["parameters"]
