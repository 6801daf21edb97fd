"""What the warm ranks can be asked to train."""

from typing import Any

from ecdctr.distributed.collective import Collective
from ecdctr.distributed.tasks import current_signals, rank_task
from ecdctr.training.level import train_level
from ecdctr.training.task import LevelTask


@rank_task("train_level")
def train(collective: Collective, payload: dict[str, Any]) -> dict[str, Any]:
    """Train one level; the payload is a `LevelTask` as JSON."""
    return train_level(collective, LevelTask.model_validate(payload), current_signals())
