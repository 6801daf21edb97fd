"""The files of a published version: network, tables and optimiser, whole or in one part per rank."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from ecdctr.artifacts.files import digest_file, link_or_copy, sync, temporary_folder
from ecdctr.artifacts.tensor_files import PART, part_name, parts_of, read_parts, write_tensors
from ecdctr.distributed.collective import Collective
from ecdctr.models.base import CTRModel
from ecdctr.nn.stored_rows import StoredRows
from ecdctr.training.trainer import Trainer
from ecdctr.transfer.autoft import AutoFT
from ecdctr.transfer.fine_tuning import load_frozen

logger = logging.getLogger(__name__)

NETWORK = "network.safetensors"
TABLES = "tables.safetensors"
OPTIMIZER = "optimizer.safetensors"
FROZEN_NETWORK = "frozen_network.safetensors"
FROZEN_TABLES = "frozen_tables.safetensors"
"""The tables of the CPM version that the frozen twin is: the same file under a second name where the disk allows."""

Values = Tensor | StoredRows


def read_tensors(folder: Path, name: str) -> dict[str, Values]:
    """All tensors of a version's file and of its parts, mapped from the files and read when they are used.

    Args:
        folder: Of the version.
        name: `tables.safetensors`, for example; its parts are `tables-RANK-of-RANKS.safetensors`.
    """
    whole: dict[str, Values] = dict(load_file(folder / name))
    parts = read_parts(folder, name.removesuffix(".safetensors"))
    return whole | {key: StoredRows(rows) for key, rows in parts.items()}


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Values]]:
    """Network and tables of a version."""
    return load_file(folder / NETWORK), read_tensors(folder, TABLES)


def load_version(model: CTRModel, folder: Path) -> None:
    """Give a model the parameters of a published version; its tables may have more rows, which stay as they are.

    Of tables that the model has dealt to ranks, each rank takes its rows, on however many ranks they were written.
    """
    network, tables = read_state(folder)
    model.load_network_state(network)
    for name, table in tables.items():
        model.tables.load_table(name, table)
    if isinstance(model, AutoFT):
        load_frozen(model, load_file(folder / FROZEN_NETWORK), read_tensors(folder, FROZEN_TABLES))


class Parts:
    """What each rank writes of a version: its rows of sharded tables and their state, beside all others.

    Args:
        store: Root of the artifact store.
        collective: The ranks; all make one of these, and call its methods, together.
    """

    def __init__(self, store: Path, collective: Collective) -> None:
        self.store = store
        self.folder = store
        self.collective = collective
        self.digests: dict[str, str] = {}
        self._held = ExitStack()

    def write(self, trainer: Trainer) -> None:
        """Write this rank's files where there is something to write; afterwards `digests` has those of all ranks."""
        tables = trainer.model.tables
        if not tables.layout.sharded:
            return
        if self.collective.rank == 0:
            self.folder = self._held.enter_context(temporary_folder(self.store))
        self.folder = self.store / self.collective.all_gather_json(self.folder.name)[0]
        own: dict[str, Mapping[str, Tensor]] = {
            "tables": {name: rows for name, rows in tables.tables().items() if name in tables.layout.sharded},
            "optimizer": trainer.shard_optimizer_state(),
        }
        written = {}
        for name, tensors in own.items():
            path = self.folder / part_name(name, self.collective.rank, self.collective.size)
            write_tensors(path, tensors)
            # By each rank itself: rank 0, for which the others wait a limited time, then finds it done.
            sync(path)
            written[path.name] = digest_file(path)
        for found in self.collective.all_gather_json(written):
            self.digests |= found

    def move_into(self, folder: Path) -> None:
        """Move the files of all ranks into a version's folder; by one rank."""
        for name in self.digests:
            (self.folder / name).rename(folder / name)
        self._held.close()


def link_tables(source: Path, name: str, target: Path) -> None:
    """Give a version the tables of another as its frozen ones, without a second copy where the disk allows.

    Args:
        source: Folder of the other version.
        name: Of its file of tables.
        target: Folder of the version.
    """
    link_or_copy(source / name, target / FROZEN_TABLES)
    for path in parts_of(source, name.removesuffix(".safetensors")):
        match = PART.search(path.name)
        assert match is not None
        frozen = part_name(FROZEN_TABLES.removesuffix(".safetensors"), int(match[1]), int(match[2]))
        link_or_copy(path, target / frozen)
