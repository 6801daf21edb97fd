"""Where a rank keeps its network and tables: in the host's memory, or on a GPU of its own."""

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch

from ecdctr.config.training import Device
from ecdctr.exceptions import ConfigError
from ecdctr.models.base import CTRModel
from ecdctr.transfer.autoft import AutoFT


def device_of(wanted: Device, local_rank: int) -> torch.device:
    """The device of a rank.

    Args:
        wanted: As configured.
        local_rank: Number of the rank among those on its machine; GPUs are taken in turn.

    Raises:
        ConfigError: No GPU that this torch can use.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise ConfigError(
            f"training.device is cuda, and torch {torch.__version__} finds no GPU on this machine",
            hint="use device: cpu, or run the ranks where a GPU, its driver and a CUDA build of torch are",
        )
    device = torch.device("cuda", local_rank % count)
    torch.cuda.set_device(device)
    return device


def move(model: CTRModel, device: torch.device) -> None:
    """Bring a new model to a device, before its tables are in use."""
    model.to(device)
    if isinstance(model, AutoFT):
        # No submodule, hence beyond reach of `to`.
        model.frozen.to(device)
    for tables in (model.tables, *model.twin_tables()):
        tables.to(device)
