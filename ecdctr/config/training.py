"""How a level is trained: optimisers, learning rates, batches, and where tables lie."""

from typing import Literal

from pydantic import Field, model_validator

from ecdctr.settings import Settings

Device = Literal["cpu", "cuda"]


class OptimizerConfig(Settings):
    """Adam for the network; for the embedding tables an optimiser that touches the rows of a batch alone."""

    dense_learning_rate: float = Field(default=1e-3, gt=0)
    """Of Adam."""
    sparse_optimizer: Literal["rowwise_adagrad", "lazy_adam", "ftrl"] = "rowwise_adagrad"
    """Of the tables; definitions: docs/models.md. State per row: 1 number, 2·D + 1, 2·D."""
    sparse_learning_rate: float = Field(default=2e-2, gt=0)
    """Of the tables' optimiser."""
    sparse_l2: float = Field(default=0.0, ge=0)
    """λ of the penalty ½ λ ‖row‖² on each row that a step touches."""
    max_norm: float | None = Field(default=None, gt=0)
    """Largest norm of a row after a step that touches it."""
    ftrl_beta: float | None = Field(default=None, gt=0)
    """`ftrl`: β; none: 1e-4, since gradients are those of a batch's mean."""
    ftrl_l1: float | None = Field(default=None, ge=0)
    """`ftrl`: λ of the penalty λ ‖row‖₁; none: 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled, on the network's weights only."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the network's gradient."""
    schedule: Literal["constant", "warmup", "cosine"] = "constant"
    """Of both learning rates over the steps of a version: as they are; after a linear rise as they are; falling along half a cosine,
    after a linear rise where `warmup_steps` is set."""
    warmup_steps: int | None = Field(default=None, ge=1)
    """`warmup`, `cosine`: steps of the linear rise."""
    final_rate: float | None = Field(default=None, ge=0, le=1)
    """`cosine`: part of the learning rates that is left at the end; none: 0."""
    copied_rate: float = Field(default=1.0, ge=0)
    """Factor of both learning rates for what A-CTR has copied from CPM: parameters, and rows of tables."""
    new_rate: float = Field(default=1.0, ge=0)
    """Factor of both learning rates for what A-CTR has beside that: re-initialised parameters, policies, later rows of tables."""

    @model_validator(mode="after")
    def _options_are_the_optimizer_s(self) -> "OptimizerConfig":
        for option in ("ftrl_beta", "ftrl_l1"):
            if getattr(self, option) is not None and self.sparse_optimizer != "ftrl":
                raise ValueError(f"{option} is set, which sparse_optimizer {self.sparse_optimizer!r} does not have")
        if self.schedule == "warmup" and self.warmup_steps is None:
            raise ValueError("schedule 'warmup' asks for warmup_steps")
        if self.schedule == "constant" and self.warmup_steps is not None:
            raise ValueError("warmup_steps is set, which schedule 'constant' does not have")
        if self.schedule != "cosine" and self.final_rate is not None:
            raise ValueError(f"final_rate is set, which schedule {self.schedule!r} does not have")
        return self


class TablesConfig(Settings):
    """Where the embedding tables of a level lie while it is trained; see docs/distributed.md."""

    exchange: Literal["replicated", "row_wise", "auto"] = "auto"
    """Every rank holds all rows, or each row lies on one rank and is fetched by the others; `auto` decides by size.
    All give the same parameters."""
    exchange_of: dict[str, Literal["replicated", "row_wise"]] = Field(default_factory=dict)
    """Another `exchange` for some vocabularies, by their names."""
    shard_above_bytes: int = Field(default=2**27, ge=0)
    """`auto`: once one table is above it, optimiser state included, all are dealt to the ranks."""
    max_table_bytes: int | None = Field(default=None, ge=1)
    """Most bytes of tables and optimiser state on one rank: `auto` deals all tables where they would not fit whole; what does not fit
    is refused. None: no limit."""


class EarlyStoppingConfig(Settings):
    """How many epochs a version trains, told by days that follow its training rows; see docs/training.md."""

    days: int = Field(default=0, ge=0)
    """Last days before a version's date that are held back from its training and looked at after each epoch. The version that
    goes on from it trains on them. 0: no early stopping, all epochs are trained."""
    metric: Literal["log_loss", "auc", "gauc"] = "log_loss"
    """Of these days' rows."""
    patience: int = Field(default=1, ge=1)
    """Epochs in a row without a better one after which training stops; the best one's parameters are published."""
    min_gain: float = Field(default=0.0, ge=0)
    """By how much an epoch must be better to count."""


class TrainingConfig(OptimizerConfig):
    """How one level is trained."""

    tables: TablesConfig = TablesConfig()

    batch_size: int = Field(default=1024, ge=1)
    """Rows of a step over all ranks together."""
    micro_batches: int = Field(default=1, ge=1)
    """Parts into which each rank cuts its rows of a step, each with its share of every domain: gradients add up before the one update.
    Less memory; batch normalisation sees one part at a time."""
    autocast: Literal["none", "bfloat16", "float16"] = "none"
    """The network computes matrix products in it, `float16` with a loss scaled up against vanishing gradients; parameters, tables,
    sums over ranks and losses stay float32. Pays where the processor has such products, see docs/training.md."""
    device: Device = "cpu"
    """Where network and tables are while they are trained. `cuda`: each rank takes a GPU of its machine; what ranks exchange goes
    through NCCL where Horovod was built with it, else through the host's memory. Rows are read by the processor either way."""
    compile: bool = False
    """Whether `torch.compile` translates the network without tables and normalisation; asks for a C++ compiler where ranks run. Pays
    in long trainings at most, see docs/training.md."""
    epochs: int = Field(default=1, ge=1)
    """A second one over-fits sparse ids; `early_stopping` says when."""
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    shuffle: bool = True
    """False: rows in the order of their days."""
    checkpoint_steps: int = Field(default=500, ge=1)
    """Steps between two checkpoints within a level."""

    @model_validator(mode="after")
    def _stops_between_epochs(self) -> "TrainingConfig":
        if self.early_stopping.days and self.epochs == 1:
            raise ValueError(
                f"early_stopping.days is {self.early_stopping.days} and epochs is 1: it stops between epochs, so raise epochs"
            )
        return self


class ActrTrainingConfig(TrainingConfig):
    """How the ad model is trained."""

    batch_size: int = Field(default=256, ge=1)
    """Rows of a step over all ranks together."""
