"""The training loop: steps, exchange, optimiser, checkpoints, and decisions that all ranks take together."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ecdctr.config.training import TrainingConfig
from ecdctr.data.batch import Batch
from ecdctr.distributed.collective import Collective
from ecdctr.exceptions import TemporaryError, TrainingError
from ecdctr.models.base import CTRModel
from ecdctr.nn.kernels import builds
from ecdctr.nn.stored_rows import StoredRows
from ecdctr.training.adamw import AdamW
from ecdctr.training.early_reduction import EarlyReduction
from ecdctr.training.flat_gradients import FlatGradients
from ecdctr.training.loss_scale import LossScale
from ecdctr.training.optimizers import sparse_optimizer
from ecdctr.training.rates import Copied, RowRates, schedule
from ecdctr.training.row_exchange import add_up, exchange_gradients

LOSS, WEIGHT, STOP, OVERFLOW = range(4)
CURVE_POINTS = 200
PHASES = ("input", "lookup", "forward", "backward", "exchange", "update")
"""What the seconds of a step went into: waiting for its rows, fetching rows of tables, and so on."""


@dataclass
class Progress:
    """Where the training stands; what callbacks are told after each step."""

    step: int = 0
    steps: int = 0
    loss: float = float("nan")
    curve: list[tuple[int, float]] = field(default_factory=list)
    loss_sum: float = 0.0
    log_odds: float = 0.0
    weight_sum: float = 0.0
    phases: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    looks: list[dict[str, Any]] = field(default_factory=list)
    """With early stopping, what was seen of the days held back after each epoch."""


class Trainer:
    """Trains one model on one rank, in step with the others.

    The loss of a step is the sum of weighted binary cross entropies over the global batch divided by its weight, in
    nats; a rank with an empty local batch takes part with zeros. One all-reduce carries the network's gradients, the
    loss, the weight, the wish to stop and whether 16-bit gradients overflowed; it begins as soon as the last of them is there.
    The embedding rows of the batch are exchanged beside it.

    Args:
        model: The model, equal on all ranks.
        collective: The ranks.
        settings: Learning rates and clipping.
        seed: Of the dropout masks, which depend on seed, step and rank alone.
        copied: What the model has from a parent; None: it was not started from one.
    """

    def __init__(
        self,
        model: CTRModel,
        collective: Collective,
        settings: TrainingConfig,
        seed: int,
        copied: Copied | None = None,
    ) -> None:
        self.seed = seed
        self.model = model
        self.collective = collective
        self.settings = settings
        self.device = model.tables.device
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.flat = FlatGradients(self.parameters, scalars=4)
        self.early = EarlyReduction(collective, self.parameters, self.flat)
        self.copied = copied
        # One rate for all leaves groups and rows undivided.
        self._apart = copied is not None and settings.copied_rate != settings.new_rate
        self._rows = RowRates(model, copied.rows) if copied is not None and self._apart else None
        self._one_rate = 1.0 if copied is None else settings.copied_rate
        self.dense = AdamW(self._groups(), settings.weight_decay)
        self.sparse = sparse_optimizer(model.tables, settings)
        self.progress = Progress()
        self.loss_scale = LossScale(settings.autocast == "float16", settings.batch_size)
        self._bucket = (0.0, 0.0)
        if not collective.same(builds()):
            raise TrainingError(
                "some ranks have the compiled kernels and others have not, or another build of them",
                hint="install the same build of the package for all ranks: their parameters would differ in last bits",
            )

    def _groups(self) -> list[dict[str, Any]]:
        """The network's parameters by the factor of their learning rate."""
        if self.copied is None or not self._apart:
            return [{"params": self.parameters, "factor": self._one_rate}]
        named = [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        of = {
            self.settings.copied_rate: [parameter for name, parameter in named if name in self.copied.parameters],
            self.settings.new_rate: [parameter for name, parameter in named if name not in self.copied.parameters],
        }
        return [{"params": parameters, "factor": factor} for factor, parameters in of.items() if parameters]

    def fit(
        self,
        batches: Iterable[Batch],
        steps: int,
        *,
        stop_requested: Callable[[], bool] = lambda: False,
        on_step: Callable[[Progress], None] = lambda progress: None,
        save: Callable[[Progress], None] | None = None,
    ) -> Progress:
        """Train on all batches that are left.

        Args:
            batches: This rank's local batches, from the current step on.
            steps: Steps of the whole task, equal on all ranks.
            stop_requested: Asked before each step; one rank's yes stops all after the step.
            on_step: Told after each step.
            save: Writes a checkpoint; called every `checkpoint_steps` and before a stop.

        Raises:
            TrainingError: The loss of a global batch is not finite; raised on all ranks in the same step.
            TemporaryError: A stop was asked for; the checkpoint is written.
        """
        self.model.train()
        self.progress.steps = steps
        for batch in self._timed(batches):
            stop = self._step(batch, stop_requested())
            on_step(self.progress)
            due = self.progress.step % self.settings.checkpoint_steps == 0 and self.progress.step < steps
            if save is not None and (due or stop):
                save(self.progress)
            if stop and self.progress.step < steps:
                raise TemporaryError(
                    f"stopped at step {self.progress.step} of {steps} as asked", hint="call again to go on from there"
                )
        return self.progress

    def _timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        since = time.perf_counter()
        for batch in batches:
            self.progress.phases["input"] += time.perf_counter() - since
            yield batch
            since = time.perf_counter()

    def _step(self, batch: Batch, stop: bool) -> bool:
        clock = _Clock(self.progress.phases, self.device)
        self.flat.zero()
        # Seeded by step, so that a resumed run draws the masks of the unbroken one.
        torch.manual_seed((self.seed * 1_000_003 + self.progress.step) * 4096 + self.collective.rank)
        parts = self.settings.micro_batches
        batch = batch if self.device.type == "cpu" else batch.to(self.device)
        self.flat.scalars[WEIGHT] = batch.weight.sum()
        self.flat.scalars[STOP] = float(stop)
        touched = []
        for number, part in enumerate(_cut(batch, parts), 1):
            # Whether a 16-bit gradient overflowed is known only when all of them are there.
            if number == parts and not self.loss_scale.wanted:
                self.early.expect()
            self._learn(part, clock)
            touched.append(self.model.tables.touched_gradients())
        begun = self.early.begun()
        buffer = self.flat.gather() if begun is None else self.flat.buffer
        own = add_up(touched)
        if self.loss_scale.wanted:
            self.flat.scalars[OVERFLOW] = float(
                not all(bool(part.isfinite().all()) for part in (self.flat.gradients, own[1]))
            )
        clock.lap("backward")
        rows, gradients = exchange_gradients(self.collective, self.model.tables.layout, buffer, *own, begun)
        total_loss, weight, stops, overflows = self.flat.scalars.tolist()
        # The reduced loss is the same number everywhere, so every rank raises, or none does.
        if not _finite(total_loss):
            raise TrainingError(
                f"the loss of step {self.progress.step + 1} is {total_loss}, not a finite number",
                hint="lower the learning rates, set clip_norm, or look for wild values in number features",
            )
        scale = 1.0 / max(weight, 1e-12) / self.loss_scale.factor
        self.flat.gradients.mul_(scale)
        gradients.mul_(scale)
        clock.lap("exchange")
        if overflows == 0:
            if self.settings.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
            self._update(rows, gradients)
            self.model.stepped()
        self.loss_scale.update(overflows > 0)
        clock.lap("update")
        self._account(total_loss, weight)
        return bool(stops > 0)

    def _learn(self, batch: Batch, clock: "_Clock") -> None:
        """Add the gradients of some rows and the sum of their weighted losses."""
        looked_up = self._looking_up()
        kind = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.settings.autocast)
        with torch.autocast(self.device.type, kind, enabled=kind is not None):
            logits = self.model(batch).float()
            penalty = self.model.penalty()
        loss = (F.binary_cross_entropy_with_logits(logits, batch.label, reduction="none") * batch.weight).sum()
        self.flat.scalars[LOSS] += loss.detach()
        clock.lap("forward")
        clock.move("forward", "lookup", self._looking_up() - looked_up)
        # What is reported stays the log loss: the penalty is learned from, and not told.
        whole = loss if penalty is None else loss + (penalty * batch.weight).sum()
        (whole * self.loss_scale.factor if self.loss_scale.wanted else whole).backward()
        clock.lap("backward")

    def _looking_up(self) -> float:
        """Seconds that all tables of the model have spent in look-ups so far."""
        return sum(tables.seconds for tables in (self.model.tables, *self.model.twin_tables()))

    def _update(self, rows: Tensor, gradients: Tensor) -> None:
        settings = self.settings
        scheduled = schedule(settings, self.progress.step, self.progress.steps)
        for group in self.dense.param_groups:
            group["lr"] = settings.dense_learning_rate * group["factor"] * scheduled
        self.dense.step()
        parts = [(rows, gradients, self._one_rate)]
        if self._rows is not None:
            new = self._rows.new(rows)
            parts = [
                (rows[chosen], gradients[chosen], factor)
                for chosen, factor in ((~new, settings.copied_rate), (new, settings.new_rate))
            ]
        for places, values, factor in parts:
            self.sparse.lr = settings.sparse_learning_rate * factor * scheduled
            self.sparse.step(places, values)

    def _account(self, loss_sum: float, weight: float) -> None:
        progress = self.progress
        progress.step += 1
        progress.loss = loss_sum / max(weight, 1e-12)
        progress.loss_sum += loss_sum
        progress.weight_sum += weight
        held_loss, held_weight = self._bucket
        self._bucket = (held_loss + loss_sum, held_weight + weight)
        if progress.step % max(1, progress.steps // CURVE_POINTS) == 0 or progress.step == progress.steps:
            progress.curve.append((progress.step, self._bucket[0] / max(self._bucket[1], 1e-12)))
            self._bucket = (0.0, 0.0)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and record from which an unbroken run can go on bit for bit; without what `shard_state` has."""
        progress = self.progress
        record = {
            "loss": progress.loss, "curve": progress.curve, "loss_sum": progress.loss_sum,
            "weight_sum": progress.weight_sum, "bucket": self._bucket, "phases": progress.phases,
            "looks": list(progress.looks), "loss_scale": self.loss_scale.state(),
        }  # fmt: skip
        network = {f"network.{name}": tensor for name, tensor in self.model.network_state().items()}
        return network | self._tables(sharded=False) | self.optimizer_state(), record

    def shard_state(self) -> dict[str, Tensor]:
        """Rows and optimiser state of sharded tables, as far as this rank holds them."""
        return self._tables(sharded=True) | self.shard_optimizer_state()

    def _tables(self, *, sharded: bool) -> dict[str, Tensor]:
        tables = self.model.tables
        return {
            f"table.{name}": table
            for name, table in tables.tables().items()
            if (name in tables.layout.sharded) == sharded
        }

    def optimizer_state(self) -> dict[str, Tensor]:
        """State of both optimisers but for sharded tables: Adam's moments by parameter name, the tables' by vocabulary."""
        names = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        tensors: dict[str, Tensor] = {}
        for name, parameter in zip(names, self.parameters, strict=True):
            for key, value in self.dense.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        return tensors | self._sparse_state(sharded=False)

    def shard_optimizer_state(self) -> dict[str, Tensor]:
        """State of the rows of sharded tables that this rank holds."""
        return self._sparse_state(sharded=True)

    def _sparse_state(self, *, sharded: bool) -> dict[str, Tensor]:
        return {
            f"{self.sparse.name}.{key}": tensor
            for key, tensor in self.sparse.state_dict().items()
            if (key.partition(".")[2] in self.model.tables.layout.sharded) == sharded
        }

    def load_optimizer_state(self, tensors: Mapping[str, Tensor | StoredRows]) -> None:
        """Take over both optimisers' state; tables that have grown since keep fresh state for new rows."""
        names = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        for name, parameter in zip(names, self.parameters, strict=True):
            moments = {key: tensors.get(f"adam.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            found = {
                key: value.to(parameter.device, copy=True)
                for key, value in moments.items()
                if isinstance(value, Tensor)
            }
            if found:
                self.dense.state[parameter] = found
        self.load_table_state(tensors)

    def load_table_state(self, tensors: Mapping[str, Tensor | StoredRows]) -> None:
        """Take over the tables' optimiser alone, so that rows that a parent has often moved move less.

        Raises:
            TrainingError: The parent's was another one.
        """
        state = _below(tensors, f"{self.sparse.name}.")
        if not state:
            raise TrainingError(
                f"the parent has no state of {self.sparse.name}",
                hint="train both levels with one sparse_optimizer, or set transfer.table_state to fresh",
            )
        self.sparse.load_state_dict(state)

    def restore(self, step: int, tensors: Mapping[str, Tensor | StoredRows], record: dict[str, Any]) -> None:
        """Go back to `step`; called on every rank with what all of them have written there.

        Args:
            step: Where `state` and `shard_state` were asked for.
            tensors: What they returned, the latter as `StoredRows` of all ranks' parts.
            record: What `state` returned.
        """
        network = _below(tensors, "network.")
        self.model.load_network_state({name: value for name, value in network.items() if isinstance(value, Tensor)})
        for name, table in _below(tensors, "table.").items():
            self.model.tables.load_table(name, table)
        self.load_optimizer_state(tensors)
        progress = self.progress
        progress.step, progress.loss = step, record["loss"]
        progress.curve = [(int(at), float(loss)) for at, loss in record["curve"]]
        progress.loss_sum, progress.weight_sum = record["loss_sum"], record["weight_sum"]
        if self.loss_scale.wanted:
            self.loss_scale.restore(record["loss_scale"])
        progress.looks = list(record.get("looks", []))
        # A checkpoint of an earlier release may not have every phase.
        progress.phases = dict.fromkeys(PHASES, 0.0) | record["phases"]
        self._bucket = (record["bucket"][0], record["bucket"][1])


class _Clock:
    """Adds the time since the last lap to a phase."""

    def __init__(self, phases: dict[str, float], device: torch.device) -> None:
        self.phases, self.device = phases, device
        self.since = time.perf_counter()

    def lap(self, phase: str) -> None:
        if self.device.type == "cuda":
            # What a GPU was told is not done yet.
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.phases[phase] += now - self.since
        self.since = now

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count seconds of a phase to another one."""
        self.phases[source] -= seconds
        self.phases[target] += seconds


def _cut(batch: Batch, parts: int) -> Iterator[Batch]:
    """The rows of a batch in so many parts, some perhaps empty."""
    if parts == 1:
        yield batch
        return
    # Every so manyth row: rows of one domain stand together, and each part gets its share of every domain.
    rows = torch.arange(len(batch), device=batch.label.device)
    for part in range(parts):
        yield batch.take(rows[part::parts])


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")


def _below(tensors: Mapping[str, Tensor | StoredRows], prefix: str) -> dict[str, Tensor | StoredRows]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
