"""What the warm ranks can be asked to do."""

from collections.abc import Callable
from typing import Any

from ecdctr.distributed.collective import Collective
from ecdctr.training.level import Signals, train_level
from ecdctr.training.task import LevelTask
