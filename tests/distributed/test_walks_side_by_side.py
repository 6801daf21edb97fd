"""Arms walked side by side by ranks of their own publish the very versions of one lane."""

import threading

import pytest

from ecdctr.datasets.planted import Recipe, plant
from ecdctr.pipelines.clock import DAY
from ecdctr.pipelines.planted import levels
from ecdctr.pipelines.planted_walk import START, PlantedPublisher, PlantedWorkspace, planted_config
from ecdctr.pipelines.walks import Outing, run_walks
from ecdctr.pipelines.workspace import Workspace

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(240)]

ARMS = ["ecdctr", "ecdctr_autoft", "finetune", "autoft"]
WORLD = plant(Recipe(users=120, days=14, walk=3, natural_rows=2.0), seed=7)


class Published(PlantedPublisher):
    """Versions of all walks of one comparison, as a ledger has them."""

    def __init__(self, workspace: Workspace, shared: list, lock: threading.Lock) -> None:
        super().__init__(workspace)
        self.found, self.lock = shared, lock

    def flush(self) -> None:
        with self.lock:
            super().flush()


class Opened(PlantedWorkspace):
    """Ranks are processes instead of this one."""

    def __init__(self, config, world=WORLD) -> None:
        super().__init__(config, world)
        self._first = self
        self.staging = self.root / "_staging"

    def call(self, name, payload, label):
        return Workspace.call(self, name, payload, label)

    def beside(self, number):
        other = Opened(self.config)
        other._place = f"-{number}"
        return other


def versions(folder, lanes: int) -> dict[str, str]:
    config = planted_config(ARMS, levels=levels(), warehouse=folder, threads_per_rank=1)
    found, lock = [], threading.Lock()
    window = (START + WORLD.walk[0] * DAY, START + WORLD.walk[1] * DAY)
    plan = [Outing(config.model_copy(update={"arms": [arm]}), arm) for arm in ARMS]
    with Opened(config) as opened:
        run_walks(opened, plan, window, lanes, publisher=lambda lane: Published(lane, found, lock))
    assert len({entry.version for entry in found}) == len(found)
    assert not list((config.warehouse_dir / "_sessions").iterdir())
    return {entry.version: entry.digest for entry in found}


def test_two_lanes_publish_bit_for_bit_what_one_lane_does(tmp_path):
    one = versions(tmp_path / "one", lanes=1)
    assert {name.split("-")[0] for name in one} == {"tpm", "cpm", "actr"}
    assert len([name for name in one if name.startswith("actr-")]) == len(ARMS) * 3
    assert versions(tmp_path / "two", lanes=2) == one
