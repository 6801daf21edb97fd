"""Walks side by side: parents first, every walk once, an end that names what went wrong."""

import datetime as dt
import logging
import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecdctr import cores
from ecdctr.config import load_config
from ecdctr.exceptions import InputError, TemporaryError, TrainingError
from ecdctr.pipelines import walks as walks_module
from ecdctr.pipelines.compare_tuning import with_training
from ecdctr.pipelines.walks import Outing, lanes_for, run_walks, waits_for
from ecdctr.pipelines.workspace import Workspace

pytestmark = pytest.mark.unit

SIMULATED = Path(__file__).parents[2] / "conf" / "datasets" / "simulated.yml"
WINDOW = (dt.date(2024, 2, 1), dt.date(2024, 2, 4))
ARMS = ["ecdctr", "ecdctr_autoft", "finetune", "target_only", "ecdctr_gate", "ecdctr_no_cpm", "autoft", "star"]


def outings(arms=ARMS, seeds=(1,)) -> list[Outing]:
    return [
        Outing(load_config(SIMULATED, [f"arms=[{arm}]", f"seed={seed}"]), f"{arm}, seed {seed}")
        for seed in seeds
        for arm in arms
    ]


def test_a_walk_waits_for_those_that_train_its_parents_and_for_no_others():
    # TPM and the usual CPM come with ecdctr, the plain CPM with finetune; a gate has a CPM of its own on the same TPM.
    assert waits_for(outings()) == [set(), {0}, set(), set(), {0}, {0}, {2}, set()]
    two = waits_for(outings(["ecdctr", "finetune"], seeds=(1, 2)))
    assert two == [set(), set(), set(), set()]


def test_trials_of_one_arm_wait_for_the_first_which_trains_what_they_share():
    config = load_config(SIMULATED, ["arms=[finetune]"])
    tried = [Outing(with_training(config, "finetune", {"batch_size": size}), "") for size in (32, 64, 64)]
    assert waits_for(tried) == [set(), {0}, {0, 1}]


class Lane:
    """A workspace that remembers."""

    def __init__(self, first: "Lane | None" = None) -> None:
        self.first, self.config = first or self, None
        self.lanes: list[Lane] = []
        self.stopped, self.aborted, self.closed = threading.Event(), False, False

    def beside(self, number: int) -> "Lane":
        self.lanes.append(Lane(self))
        return self.lanes[-1]

    @contextmanager
    def using(self, config):
        before, self.config = self.config, config
        yield self
        self.config = before

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closed = True

    def stop(self):
        self.stopped.set()

    def abort(self):
        self.aborted = True
        self.stop()


def walked(monkeypatch, plan: list[Outing], lanes: int, step=lambda lane: time.sleep(0.01)):
    """What ran when: (label's arm, began, ended), the number of walks at once at most, and the workspace."""
    opened, times, lock, at_once = Lane(), {}, threading.Lock(), [0, 0]

    def walk(lane, since, until, publisher):
        assert (since, until) == WINDOW
        assert publisher is lane
        key = (lane.config.arms[0], lane.config.seed)
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        began = time.monotonic()
        step(lane)
        with lock:
            at_once[0] -= 1
            assert key not in times
            times[key] = (began, time.monotonic())
        return SimpleNamespace(trained={"actr": 3})

    monkeypatch.setattr(walks_module, "walk", walk)
    monkeypatch.setattr(walks_module, "LOOK_SECONDS", 0.005)
    try:
        run_walks(opened, plan, WINDOW, lanes, publisher=lambda lane: lane)
    finally:
        opened.times, opened.at_once = times, at_once[1]
        walked.opened = opened
    return opened


def test_every_walk_is_made_once_and_after_its_parents(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    plan = outings(seeds=(1, 2))
    opened = walked(monkeypatch, plan, lanes=3)
    assert len(opened.times) == len(plan)
    assert 1 < opened.at_once <= 3
    keys = [(outing.config.arms[0], outing.config.seed) for outing in plan]
    for key, parents in zip(keys, waits_for(plan), strict=True):
        assert all(opened.times[keys[parent]][1] <= opened.times[key][0] for parent in parents)
    assert len(opened.lanes) == 3
    assert all(lane.closed and not lane.stopped.is_set() for lane in opened.lanes)
    told = [message for message in caplog.messages if "walks done" in message]
    assert [message.split("; ")[1].split(" of")[0] for message in told] == [str(n) for n in range(1, len(plan) + 1)]
    assert told[-1].endswith("about 0.0 s left")


def test_one_lane_walks_in_the_order_given_in_the_workspace_itself(monkeypatch):
    opened = walked(monkeypatch, outings(), lanes=1)
    assert list(opened.times) == [(arm, 1) for arm in ARMS]
    assert opened.lanes == []


def test_the_first_error_stops_the_other_lanes_and_is_the_one_that_is_raised(monkeypatch):
    def step(lane):
        if lane.config.arms == ["finetune"]:
            raise TrainingError("the loss is not a finite number")
        assert lane.stopped.wait(10)
        raise TemporaryError("stopped as asked")

    with pytest.raises(TrainingError, match="not a finite number"):
        walked(monkeypatch, outings(), lanes=2, step=step)
    opened = walked.opened
    assert opened.times == {}
    assert all(lane.closed and not lane.aborted for lane in opened.lanes)


def test_a_signal_stops_all_walks_and_a_second_one_ends_the_ranks(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)

    def stops(lane):
        if lane.config.arms == ["ecdctr"]:
            os.kill(os.getpid(), signal.SIGTERM)
        assert lane.stopped.wait(10)
        raise TemporaryError("stopped as asked")

    with pytest.raises(TemporaryError, match="as asked"):
        walked(monkeypatch, outings(), lanes=2, step=stops)
    assert not any(lane.aborted for lane in walked.opened.lanes)

    def hangs(lane):
        if lane.config.arms == ["ecdctr"]:
            os.kill(os.getpid(), signal.SIGTERM)
            # Two signals at the same time would be one.
            assert lane.stopped.wait(10)
            os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 10
        while not lane.aborted and time.monotonic() < deadline:
            time.sleep(0.005)
        raise TrainingError("rank 0 has ended")

    with pytest.raises(KeyboardInterrupt):
        walked(monkeypatch, outings(), lanes=2, step=hangs)
    assert all(lane.aborted for lane in walked.opened.lanes)
    # The second lane may not have begun.
    assert walked.opened.lanes[0].closed
    assert signal.getsignal(signal.SIGTERM) is before


def test_walks_that_end_while_a_stop_is_asked_for_are_no_whole_comparison(monkeypatch):
    def step(lane):
        if lane.config.arms == ["ecdctr"]:
            os.kill(os.getpid(), signal.SIGTERM)
        assert lane.stopped.wait(10)

    with pytest.raises(TemporaryError, match="between two walks"):
        walked(monkeypatch, outings(), lanes=2, step=step)


@pytest.mark.parametrize(("overrides", "available", "found"), [
    (["ranks=1", "threads_per_rank=1"], 2, 2),
    (["ranks=2", "threads_per_rank=1"], 8, 4),
    (["ranks=2"], 8, 1),
    (["ranks=4", "threads_per_rank=1"], 2, 1),
])  # fmt: skip
def test_as_many_walks_as_the_cores_hold(monkeypatch, overrides, available, found):
    monkeypatch.setattr(cores, "count", lambda: available)
    opened = Workspace(load_config(SIMULATED, [*overrides, "spark.master=local[4]"]))
    assert lanes_for(opened, None) == found
    assert lanes_for(opened, 3) == 3
    with pytest.raises(InputError, match="0 walks"):
        lanes_for(opened, 0)


def test_on_a_cluster_ranks_are_not_taken_from_it(monkeypatch):
    monkeypatch.setattr(cores, "count", lambda: 64)
    opened = Workspace(load_config(SIMULATED, ["ranks=1", "threads_per_rank=1", "spark.master=spark://head:7077"]))
    assert lanes_for(opened, None) == 1
    assert lanes_for(opened, 1) == 1
    with pytest.raises(InputError, match="run on others"):
        lanes_for(opened, 2)
