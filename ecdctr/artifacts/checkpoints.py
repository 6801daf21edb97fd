"""Checkpoints within one level: tensors as safetensors, the marker last, the newest whole one wins."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from ecdctr.artifacts.files import digest_file, new_folder, write_json
from ecdctr.exceptions import EcdctrError

logger = logging.getLogger(__name__)

TENSORS = "state.safetensors"
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

    def save(self, step: int, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Write one checkpoint and remove those beyond `keep`.

        Raises:
            EcdctrError: The disk is full or the folder cannot be written; earlier checkpoints stay.
        """
        try:
            with new_folder(self.root / f"step-{step:09d}") as folder:
                save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / TENSORS)
                marker = {
                    "task": self.task_digest,
                    "step": step,
                    "digest": digest_file(folder / TENSORS),
                    "record": record,
                }
                write_json(folder / MARKER, marker)
        except OSError as error:
            raise EcdctrError(
                f"checkpoint at step {step} could not be written to {self.root}: {error}",
                hint="free disk space and call again; the checkpoint before is intact",
            ) from error
        for old in self._folders()[: -self.keep]:
            shutil.rmtree(old)

    def latest(self) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
        """Step, tensors and record of the newest whole checkpoint of this task; None where there is none."""
        for folder in reversed(self._folders()):
            try:
                marker = json.loads((folder / MARKER).read_text())
                if marker["task"] != self.task_digest:
                    logger.warning(
                        "checkpoint %s belongs to another task, config or world size; passed over", folder.name
                    )
                    continue
                if digest_file(folder / TENSORS) != marker["digest"]:
                    raise ValueError("its tensors differ from the recorded digest")
                return marker["step"], load_file(folder / TENSORS), marker["record"]
            except (OSError, ValueError, KeyError) as error:
                logger.warning("checkpoint %s is damaged (%s); the one before is used", folder.name, error)
        return None

    def remove(self) -> None:
        """Remove all checkpoints of the task."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _folders(self) -> list[Path]:
        return sorted(self.root.glob("step-*")) if self.root.exists() else []
