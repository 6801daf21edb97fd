"""What the warm ranks can be asked to train and to score."""

from typing import Any

from ecdctr.distributed.collective import Collective
from ecdctr.distributed.tasks import current_signals, rank_task
from ecdctr.training.late_scores import score_published
from ecdctr.training.level import train_level
from ecdctr.training.task import LevelTask, ScoringTask


@rank_task("train_level")
def train(collective: Collective, payload: dict[str, Any]) -> dict[str, Any]:
    """Train one level; the payload is a `LevelTask` as JSON."""
    return train_level(collective, LevelTask.model_validate(payload), current_signals())


@rank_task("score_published")
def score(collective: Collective, payload: dict[str, Any]) -> dict[str, Any]:
    """Score rows with a published version; the payload is a `ScoringTask` as JSON."""
    return score_published(collective, ScoringTask.model_validate(payload))
