"""A small random search for every arm on days before the compared ones, with the same trials for all."""

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecdctr.config import Config
from ecdctr.config.training import TrainingConfig
from ecdctr.exceptions import InputError
from ecdctr.metrics import summary
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.clock import DAY
from ecdctr.pipelines.evaluate import load_predictions
from ecdctr.pipelines.walks import Outing, run_walks
from ecdctr.pipelines.workspace import Workspace
from ecdctr.report.comparison_words import settings_text
from ecdctr.report.wording import NAMES, number

logger = logging.getLogger(__name__)

METRIC = "auc"
"""Of all tuning days together; GAUC rests on too few users where days are few."""
SEED_OFFSET = 1_000_000
"""Of the tried models' seed: beyond those that are compared, whose clocks so begin with the walk, as without a search."""
OCTAVES = 2.0
WEIGHT_DECAYS = (0.0, 1e-4, 1e-3, 1e-2)
BATCH_FACTORS = (0.5, 1.0, 2.0)

Settings = dict[str, Any]
"""Keys of `TrainingConfig` and their values."""


@dataclass(frozen=True)
class Draw:
    """One trial's distance from the configuration, the same for every arm.

    Attributes:
        dense: Factor of the network's learning rate.
        sparse: Factor of the tables' learning rate.
        batch: Factor of the batch size.
        weight_decay: In place of the configured one; None: as configured.
    """

    dense: float = 1.0
    sparse: float = 1.0
    batch: float = 1.0
    weight_decay: float | None = None

    def settings(self, training: TrainingConfig) -> Settings:
        """What the trial changes of an arm's own training."""
        if self == Draw():
            return {}
        return {
            "dense_learning_rate": _rounded(training.dense_learning_rate * self.dense),
            "sparse_learning_rate": _rounded(training.sparse_learning_rate * self.sparse),
            "batch_size": max(1, round(training.batch_size * self.batch)),
            "weight_decay": training.weight_decay if self.weight_decay is None else self.weight_decay,
        }


def draws(trials: int, seed: int) -> list[Draw]:
    """The configuration itself, then random ones: learning rates up to two octaves away, evenly in their logarithm."""
    # Drawn one after another: more trials begin with those of fewer.
    rng = np.random.default_rng([seed, 1])
    found = [Draw()]
    for _ in range(trials - 1):
        dense, sparse = (float(2.0**octaves) for octaves in rng.uniform(-OCTAVES, OCTAVES, 2))
        found.append(Draw(dense, sparse, float(rng.choice(BATCH_FACTORS)), float(rng.choice(WEIGHT_DECAYS))))
    return found


def training_of(config: Config, arm: str) -> TrainingConfig:
    """How an arm's ad model is trained."""
    return config.levels.actr.training if ARMS[arm].joint is None else config.joint.training


def with_training(config: Config, arm: str, settings: Settings) -> Config:
    """The configuration with some settings of an arm's training replaced; all that earlier levels read stays."""
    training = TrainingConfig.model_validate(training_of(config, arm).model_dump() | settings)
    if ARMS[arm].joint is not None:
        return config.model_copy(update={"joint": config.joint.model_copy(update={"training": training})})
    actr = config.levels.actr.model_copy(update={"training": training})
    return config.model_copy(update={"levels": config.levels.model_copy(update={"actr": actr})})


def tuning_window(since: dt.date, days: int, first_day: dt.date) -> tuple[dt.date, dt.date]:
    """The last `days` days before a walk, without the ad log's first one, before which nothing can be learned.

    Raises:
        InputError: No day is left.
    """
    start = max(since - days * DAY, first_day + DAY)
    if start >= since:
        raise InputError(
            f"no day of ads to tune on: the log begins on {first_day}, the walk on {since}",
            hint="choose a later --from, or compare without --trials",
        )
    return start, since


def tune(
    opened: Workspace, config: Config, since: dt.date, trials: int, days: int, lanes: int = 1
) -> dict[str, dict[str, Any]]:
    """Walk every arm with every trial's settings over the tuning days, with a seed that no compared model has.

    Trials change A-CTR's training alone, so that all of an arm share its TPM and CPM versions. Versions are found by what
    decides them: an interrupted search goes on where it stopped.

    Args:
        opened: On prepared tables.
        config: Its arms are tuned.
        since: First day of the comparison; no tuning day lies on or after it.
        trials: For each arm.
        days: Tuning days.
        lanes: Walks at once.

    Returns:
        By arm, the keys of `ecdctr.report.comparison.Tuning`.
    """
    window = tuning_window(since, days, opened.first_day("ad_samples"))
    tried = draws(trials, config.seed)
    config = config.model_copy(update={"seed": config.seed + SEED_OFFSET, "holdout": None})
    plan = [(arm, draw.settings(training_of(config, arm))) for arm in config.arms for draw in tried]
    outings = [
        Outing(
            with_training(config, arm, settings).model_copy(update={"arms": [arm]}),
            f"{arm}, trial {place % trials + 1} of {trials}",
        )
        for place, (arm, settings) in enumerate(plan)
    ]
    run_walks(opened, outings, window, lanes)
    told: dict[str, list[dict[str, Any]]] = {arm: [] for arm in config.arms}
    for (arm, settings), outing in zip(plan, outings, strict=True):
        with opened.using(outing.config):
            rows = load_predictions(opened, [arm], *window)
        metrics = summary(rows["label"].to_numpy(), rows["probability"].to_numpy(), rows["user_id"].to_numpy())
        told[arm].append({"settings": settings, "metrics": metrics})
        logger.info("%s: %s %s, %s", outing.label, NAMES[METRIC], number(metrics[METRIC]), settings_text(settings))
    chosen = {name: best(found) for name, found in told.items()}
    for name, place in chosen.items():
        logger.info("%s: trial %d is walked, %s", name, place + 1, settings_text(told[name][place]["settings"]))
    return {
        name: {"metric": METRIC, "window": window, "seed": config.seed, "trials": found, "chosen": chosen[name]}
        for name, found in told.items()
    }


def best(trials: Sequence[dict[str, Any]]) -> int:
    """Place of the trial with the largest metric; of equal ones the first, which is the configuration itself."""
    values = [trial["metrics"][METRIC] for trial in trials]
    return max(range(len(values)), key=lambda at: (-1.0 if values[at] is None else values[at], -at))


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
