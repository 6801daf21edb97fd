"""The epochs of a level on one rank: from the newest checkpoint, until the last epoch or an early stop."""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

from ecdctr.artifacts.checkpoints import CheckpointFolder
from ecdctr.distributed.collective import Collective
from ecdctr.distributed.tasks import Signals
from ecdctr.exceptions import IntegrityError
from ecdctr.nn.stored_rows import StoredRows
from ecdctr.training.early_stopping import best, exhausted, look
from ecdctr.training.level_batches import level_batches, plan_rows
from ecdctr.training.pace import Pace
from ecdctr.training.task import LevelTask
from ecdctr.training.trainer import Progress, Trainer
from ecdctr.transfer.warmup import warm_batch_norm

logger = logging.getLogger(__name__)

LOOK_ROWS = 8192
"""Rows of a batch that is only scored, over all ranks."""


class LevelLoop:
    """Trains a level with its checkpoints.

    Args:
        trainer: Brought to where the task starts.
        task: The level.
        collective: The ranks.
        signals: Stop requests and progress.
        pace: Told of every step.

    Attributes:
        opening: Seconds from the first batch asked for to the end of the first step, by part.
    """

    def __init__(self, trainer: Trainer, task: LevelTask, collective: Collective, signals: Signals, pace: Pace) -> None:
        self.trainer, self.task, self.collective = trainer, task, collective
        self.signals, self.pace = signals, pace
        folder = Path(task.checkpoints)
        self.checkpoints = CheckpointFolder(folder, task.digest())
        self.best = CheckpointFolder(folder / "best", task.digest(), keep=1)
        self.opening: dict[str, float] = {}
        self._step = 0

    def run(self) -> Progress:
        """Train all epochs that are left; with early stopping, end with the best parameters.

        Raises:
            TemporaryError: A stop was asked for; the checkpoint is written.
            TrainingError: The loss of a global batch is not finite.
            IntegrityError: The checkpoint of the best epoch is gone.
        """
        task, trainer, settings = self.task, self.trainer, self.task.training
        per_epoch = plan_rows(task, task.train, 0, False).steps(settings.batch_size)
        self._step = self._restore()
        if self._step:
            logger.info("%s goes on from step %d", task.version, self._step)
        if task.warmup_batches and self._step == 0:
            since = time.perf_counter()
            self._warm_up()
            self.opening["warm_up"] = time.perf_counter() - since
        tell = self._teller()
        progress = trainer.progress
        for epoch in range(settings.epochs):
            skipped = min(max(progress.step - epoch * per_epoch, 0), per_epoch)
            if skipped < per_epoch or epoch == settings.epochs - 1:
                rows = level_batches(
                    task, self.collective, task.train, epoch=epoch, shuffle=settings.shuffle,
                    batch_size=settings.batch_size, start_step=skipped, opening=self.opening,
                )  # fmt: skip
                with closing(rows) as batches:
                    trainer.fit(
                        batches, per_epoch * settings.epochs, stop_requested=self.signals.stop_requested, on_step=tell,
                        save=self._saver(self.checkpoints),
                    )  # fmt: skip
            if task.validation and self._is_over(epoch):
                break
        if task.validation:
            self._take_the_best()
        return progress

    def _is_over(self, epoch: int) -> bool:
        """Look at the days held back, unless it was done before an interruption; whether no epoch should follow."""
        task, progress, settings = self.task, self.trainer.progress, self.task.training.early_stopping
        looks = progress.looks
        if len(looks) <= epoch:
            rows = level_batches(task, self.collective, task.validation, epoch=0, shuffle=False, batch_size=LOOK_ROWS)
            with closing(rows) as batches:
                seen = look(self.trainer.model, batches, self.collective)
            looks.append({"epoch": epoch + 1, "step": progress.step} | seen)
            logger.info("%s after epoch %d: %s", task.version, epoch + 1, seen)
            # Days without a row take no step: there is nothing to go back to.
            if progress.step:
                if best(looks, settings) == epoch:
                    self._saver(self.best)(progress)
                self._saver(self.checkpoints)(progress)
        return self.collective.any(exhausted(looks, settings))

    def _take_the_best(self) -> None:
        progress = self.trainer.progress
        step = progress.looks[best(progress.looks, self.task.training.early_stopping)]["step"]
        if step == progress.step:
            return
        if step not in self._whole(self.best):
            raise IntegrityError(
                f"{self.task.version}: the checkpoint of its best epoch, step {step}, is gone or damaged",
                hint=f"remove {self.checkpoints.root} and call again: the level is then trained anew",
            )
        looks, phases = progress.looks, progress.phases
        self._load(self.best, step)
        # The best epoch's own record does not know of those after it.
        progress.looks, progress.phases = looks, phases

    def _restore(self) -> int:
        """Go back to the newest checkpoint that all ranks find whole; returns its step, 0 where there is none."""
        step = max(self._whole(self.checkpoints), default=0)
        if step:
            self._load(self.checkpoints, step)
        return step

    def _whole(self, folder: CheckpointFolder) -> set[int]:
        whole = self.collective.all_gather_json(folder.whole(self.collective.rank, self.collective.size))
        return set.intersection(*map(set, whole))

    def _load(self, folder: CheckpointFolder, step: int) -> None:
        tensors, parts, record = folder.load(step)
        self.trainer.restore(step, tensors | {name: StoredRows(rows) for name, rows in parts.items()}, record)

    def _saver(self, folder: CheckpointFolder) -> Callable[[Progress], None]:
        trainer, collective = self.trainer, self.collective

        def save(progress: Progress) -> None:
            digests: list[str] = []
            if trainer.model.tables.layout.sharded:
                if collective.rank == 0:
                    folder.stage(progress.step)
                collective.barrier()
                own = trainer.shard_state()
                digests = collective.all_gather_json(
                    folder.save_part(progress.step, collective.rank, collective.size, own)
                )
            if collective.rank == 0:
                folder.save(progress.step, *trainer.state(), tuple(digests))
            collective.barrier()

        return save

    def _teller(self) -> Callable[[Progress], None]:
        since, waited = time.perf_counter(), self.trainer.progress.phases["input"]

        def tell(progress: Progress) -> None:
            self.pace.tick()
            elapsed = max(time.perf_counter() - since, 1e-9)
            if "first_step" not in self.opening:
                first_batch = progress.phases["input"] - waited
                opened = self.opening.get("footers", 0.0) + self.opening.get("open_files", 0.0)
                self.opening["first_batch"] = max(first_batch - opened, 0.0)
                self.opening["first_step"] = max(elapsed - first_batch, 0.0)
            done = (progress.step - self._step) * self.task.training.batch_size
            self.signals.report(
                {
                    "step": progress.step,
                    "steps": progress.steps,
                    "loss": progress.loss,
                    "samples_per_second": done / elapsed,
                }
            )

        return tell

    def _warm_up(self) -> None:
        """Let re-initialised normalisation see the first training batches before the first step."""
        task, training = self.task, self.task.training
        batches = level_batches(
            task, self.collective, task.train, epoch=0, shuffle=training.shuffle, batch_size=training.batch_size
        )
        with closing(batches):
            warm_batch_norm(self.trainer.model, islice(batches, task.warmup_batches), self.collective, task.seed)
