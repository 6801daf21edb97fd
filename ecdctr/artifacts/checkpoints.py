"""Checkpoints within one level: tensors as safetensors, the marker last, the newest whole one wins.

What all ranks have alike is written by one of them. What each has for itself it writes itself, into a staging folder, before
that one rank moves all parts into the checkpoint.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ecdctr.artifacts.files import TEMPORARY_PREFIX, digest_file, new_folder, sync, write_json
from ecdctr.artifacts.tensor_files import part_name, read_parts, write_tensors
from ecdctr.exceptions import EcdctrError

logger = logging.getLogger(__name__)

STATE = "state"
TENSORS = f"{STATE}.safetensors"
MARKER = "checkpoint.json"


class CheckpointFolder:
    """The checkpoints of one training task.

    Args:
        root: Folder of this task alone.
        task_digest: What the checkpoints belong to; others are passed over with a message.
        keep: How many whole checkpoints stay.
    """

    def __init__(self, root: Path, task_digest: str, keep: int = 2) -> None:
        self.root = root
        self.task_digest = task_digest
        self.keep = keep
        self._line: list[Path] = []
        """What the training that saves here has come by: folders up to the one loaded, and those saved since."""

    def stage(self, step: int) -> None:
        """Make room for the parts of all ranks; by one rank, before the others write."""
        shutil.rmtree(self._staging(step), ignore_errors=True)
        self._staging(step).mkdir(parents=True)

    def save_part(self, step: int, rank: int, size: int, tensors: Mapping[str, Tensor]) -> str:
        """Write what one rank has for itself; returns the digest that `save` wants to know.

        Raises:
            EcdctrError: The disk is full or the folder cannot be written.
        """
        path = self._staging(step) / part_name(STATE, rank, size)
        try:
            write_tensors(path, tensors)
            # By each rank itself: rank 0, for which the others wait a limited time, then finds it done.
            sync(path)
            return digest_file(path)
        except OSError as error:
            raise self._not_written(step, error) from error

    def save(
        self, step: int, tensors: Mapping[str, Tensor], record: dict[str, Any], parts: tuple[str, ...] = ()
    ) -> None:
        """Write one checkpoint; remove those beyond `keep`, and all that this training has not come by.

        Args:
            step: Where the training stands.
            tensors: What all ranks have alike.
            record: What the trainer wants to know beside them.
            parts: Digests of the parts that the ranks have staged, in their order.

        Raises:
            EcdctrError: The disk is full or the folder cannot be written; earlier checkpoints stay.
        """
        try:
            with new_folder(self._folder(step)) as folder:
                write_tensors(folder / TENSORS, tensors)
                digests = {TENSORS: digest_file(folder / TENSORS)}
                for rank, digest in enumerate(parts):
                    name = part_name(STATE, rank, len(parts))
                    (self._staging(step) / name).rename(folder / name)
                    digests[name] = digest
                write_json(
                    folder / MARKER, {"task": self.task_digest, "step": step, "digests": digests, "record": record}
                )
        except OSError as error:
            raise self._not_written(step, error) from error
        shutil.rmtree(self._staging(step), ignore_errors=True)
        newest = self._folder(step)
        self._line = [*(folder for folder in self._line if folder < newest), newest]
        # Those that could not be gone on from may lie beyond this step; they must not count.
        for old in set(self._folders()) - set(self._line[-self.keep :]):
            shutil.rmtree(old, ignore_errors=True)

    def _not_written(self, step: int, error: OSError) -> EcdctrError:
        return EcdctrError(
            f"checkpoint at step {step} could not be written to {self.root}: {error}",
            hint="free disk space and call again; the checkpoint before is intact",
        )

    def whole(self, rank: int = 0, size: int = 1) -> list[int]:
        """Steps of this task's checkpoints that are whole, ascending.

        Args:
            rank: Of the ranks that share the work of checking; a checkpoint is whole where all of them say so.
            size: How many these are; each reads every `size`-th file.
        """
        found = []
        for folder in self._folders():
            try:
                marker = json.loads((folder / MARKER).read_text())
                if marker["task"] != self.task_digest:
                    logger.warning(
                        "checkpoint %s belongs to another task, config or world size; passed over", folder.name
                    )
                    continue
                for name in sorted(marker["digests"])[rank::size]:
                    if digest_file(folder / name) != marker["digests"][name]:
                        raise ValueError(f"{name} differs from the recorded digest")
                    with safe_open(folder / name, framework="pt"):  # its header alone is read
                        pass
                found.append(marker["step"])
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                logger.warning("checkpoint %s is damaged (%s); the one before is used", folder.name, error)
        return found

    def load(self, step: int) -> tuple[dict[str, Tensor], dict[str, list[Tensor]], dict[str, Any]]:
        """Of a whole checkpoint: tensors, those in parts with one entry per rank that wrote it, and the record."""
        folder = self._folder(step)
        self._line = [earlier for earlier in self._folders() if earlier <= folder]
        marker = json.loads((folder / MARKER).read_text())
        return load_file(folder / TENSORS), read_parts(folder, STATE), marker["record"]

    def remove(self) -> None:
        """Remove all checkpoints of the task."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _staging(self, step: int) -> Path:
        return self.root / f"{TEMPORARY_PREFIX}parts-{step:09d}"

    def _folder(self, step: int) -> Path:
        return self.root / f"step-{step:09d}"

    def _folders(self) -> list[Path]:
        return sorted(self.root.glob("step-*")) if self.root.exists() else []
