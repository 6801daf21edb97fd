"""The whole configuration: one tree, every key documented where it stands."""

import datetime as dt
import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from ecdctr.config.dataset import DatasetConfig
from ecdctr.config.joint import MiNetConfig, MMoEConfig, PLEConfig, STARConfig
from ecdctr.config.operations import HookConfig, MaintenanceConfig, QualityConfig
from ecdctr.config.training import ActrTrainingConfig, TrainingConfig
from ecdctr.config.vocabularies import VocabularyConfig
from ecdctr.durations import Days
from ecdctr.features.feature_set import token_sources
from ecdctr.settings import Settings

ArmName = Literal[
    "ecdctr",
    "ecdctr_no_tpm",
    "ecdctr_no_cpm",
    "ecdctr_bn_keep",
    "ecdctr_bn_statistics",
    "ecdctr_bn_cold",
    "ecdctr_snapshots_1",
    "ecdctr_snapshots_2",
    "ecdctr_pool_mean",
    "ecdctr_pool_concat",
    "ecdctr_latest_snapshot",
    "ecdctr_shuffled_embeddings",
    "ecdctr_gate",
    "ecdctr_history_dropout",
    "ecdctr_history_unit",
    "ecdctr_history_user",
    "ecdctr_history_item",
    "ecdctr_table_state",
    "ecdctr_retrained",
    "finetune",
    "finetune_table_state",
    "target_only",
    "target_only_wide",
    "autoft_field",
    "autoft_layer",
    "autoft",
    "autoft_random",
    "autoft_prior",
    "ecdctr_autoft",
    "ecdctr_autoft_prior",
    "ecdctr_autoft_steady",
    "frozen_features",
    "frozen_tower",
    "mmoe",
    "ple",
    "star",
    "minet",
]
BatchNormStart = Literal["keep", "statistics", "full"]
SnapshotLookup = Literal["as_of", "latest"]
PoolingMode = Literal["attention", "mean", "last", "concat"]
HistoryOf = Literal["both", "user", "item"]
TableState = Literal["fresh", "copied"]

FineTuning = Literal["full", "freeze", "autoft_field", "autoft_layer", "autoft", "autoft_random"]

_SURROUNDINGS = {
    "spark", "warehouse", "runs", "threads_per_rank", "bind_to_cores", "stall_seconds", "local_exchange", "maintenance", "quality", "hooks",
}  # fmt: skip

# Where tables lie changes no bit of them.
_TABLES = {"training": {"tables"}}
_NOTHING_FOLLOWS_FROM: dict[str, Any] = dict.fromkeys(_SURROUNDINGS, True) | {
    "levels": dict.fromkeys(("tpm", "cpm", "actr"), _TABLES), "joint": _TABLES,
}  # fmt: skip

# By level, what of the configuration only the levels after it read: arms and trials that agree up to a level share it.
_READ_LATER: dict[str, list[tuple[str, ...]]] = {
    "tpm": [("holdout",), ("joint",), ("levels", "actr"), ("levels", "cpm"), ("model",), ("transfer",)],
    "cpm": [
        ("holdout",), ("joint",), ("levels", "actr"), ("transfer", "batch_norm"), ("transfer", "batch_norm_warmup"),
        ("transfer", "batch_norm_warmup_batches"), ("transfer", "prior_shift"), ("transfer", "policy"), ("transfer", "autoft"),
        ("transfer", "pin_snapshots"), ("transfer", "table_state"),
    ],
    "actr": [],
}  # fmt: skip


_SECRET = re.compile(r"secret|password|token|access.?key", re.IGNORECASE)
"""Names that Spark itself masks in its logs."""


def _digest(tree: object) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _safe_name(text: str) -> str:
    if not text.replace("-", "_").replace(".", "_").isidentifier() or text.startswith("."):
        raise ValueError(f"{text!r} is no safe name; use letters, digits, '-', '_' and '.', starting with a letter")
    return text


class SparkConfig(Settings):
    """How Spark is started where no session is handed in."""

    master: str = "local[4]"
    """Slots of a local master: the ranks occupy `ranks` of them while training, at least one more must be free."""
    driver_memory: str = "2g"
    """Heap of the driver's JVM; of everything, with a local master."""
    shuffle_partitions: int = Field(default=4, ge=1)
    """Tasks of a shuffle before adaptive execution merges them."""
    options: dict[str, str] = Field(default_factory=dict)
    """Further Spark settings, as for `spark-submit --conf`; secrets belong into `spark-defaults.conf`."""

    @field_validator("options")
    @classmethod
    def _tell_no_secret(cls, given: dict[str, str]) -> dict[str, str]:
        # Options stand in the arguments of the JVM's process, which every user of the machine can list.
        if told := [name for name in given if _SECRET.search(name)]:
            raise ValueError(
                f"{', '.join(told)} would be seen by all users of this machine; put it into spark-defaults.conf"
            )
        return given


class TpmConfig(Settings):
    """The tiny pre-training model on the long natural log."""

    every: Days = 30
    """Days between two snapshots."""
    window: Days = 180
    """Days of natural rows that the first snapshot trains on."""
    snapshots: int = Field(default=3, ge=1)
    """How many snapshots a consumer looks up."""
    fields: list[str] = Field(default_factory=list)
    """Key features beside user and item."""
    embedding_dim: int = Field(default=16, ge=1)
    """Length of the published vectors."""
    hidden_units: list[int] = Field(default=[32, 16])
    """Of its MLP."""
    continue_previous: bool = True
    """A snapshot goes on from the one before, on the days since; else it starts anew on its whole window."""
    training: TrainingConfig = TrainingConfig()


class CpmConfig(Settings):
    """The complete pre-training model on the recent natural log."""

    every: Days = 7
    """Days between two versions."""
    window: Days = 30
    """Days of natural rows that a version trains on."""
    training: TrainingConfig = TrainingConfig()


class ActrConfig(Settings):
    """The ad model."""

    every: Days = 1
    """Always one day."""
    window: Days = 30
    """Days of ads that are replayed when a new CPM version appears."""
    training: ActrTrainingConfig = ActrTrainingConfig()

    @model_validator(mode="after")
    def _daily(self) -> "ActrConfig":
        if self.every != 1:
            raise ValueError("the ad model is updated every day; 'every' must be '1d'")
        return self


class LevelsConfig(Settings):
    """Clock, window and training of each level."""

    tpm: TpmConfig = TpmConfig()
    cpm: CpmConfig = CpmConfig()
    actr: ActrConfig = ActrConfig()


class ModelConfig(Settings):
    """The structure that CPM and A-CTR share."""

    backbone: Literal["dnn", "deepfm", "dcnv2", "autoint", "din", "finalmlp"] = "dcnv2"
    """How fields interact; see docs/models.md. An option below that names backbones is refused with any other one."""
    embedding_dim: int = Field(default=16, ge=1)
    """Length of every field's vector."""
    embedding_dims: dict[str, int] | None = None
    """By vocabulary, how many of these numbers its rows learn, the first ones; the others stay zero. None: all. Also of models with
    heads for both domains; it leaves out overfitting, not memory."""
    hidden_units: list[int] = Field(default=[128, 64], min_length=1)
    """Of the MLP; of each of `finalmlp`'s two."""
    batch_norm: bool = True
    """In the MLP, with statistics of the global batch."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """In the MLP."""
    attention_hidden_units: list[int] | None = None
    """Of the target attention's scoring network; none: [32]. Not of `dnn`, which averages the click history."""
    cross_layers: int | None = Field(default=None, ge=1)
    """`dcnv2`: order of explicit interactions, less one; none: 2."""
    cross_rank: int | None = Field(default=None, ge=1)
    """`dcnv2`: low-rank cross matrices of this rank; none: full matrices."""
    structure: Literal["stacked", "parallel"] | None = None
    """`dcnv2`: the MLP reads the cross network's output, or stands beside it; none: stacked."""
    attention_layers: int | None = Field(default=None, ge=1)
    """`autoint`: layers of self-attention across fields; none: 3."""
    attention_heads: int | None = Field(default=None, ge=1)
    """`autoint`: heads of each; none: 2."""
    attention_dim: int | None = Field(default=None, ge=1)
    """`autoint`: length of a head's vector; none: 16."""
    gate_hidden_units: list[int] | None = None
    """`finalmlp`: of the networks that gate the two streams; none: [32]."""
    fusion_heads: int | None = Field(default=None, ge=1)
    """`finalmlp`: parts of the bilinear form, which must divide the last of `hidden_units`; none: 1."""

    @model_validator(mode="after")
    def _options_are_the_backbone_s(self) -> "ModelConfig":
        owners: dict[str, tuple[str, ...]] = {
            "attention_hidden_units": ("deepfm", "dcnv2", "autoint", "din", "finalmlp")
        }
        owners |= dict.fromkeys(("cross_layers", "cross_rank", "structure"), ("dcnv2",))
        owners |= dict.fromkeys(("attention_layers", "attention_heads", "attention_dim"), ("autoint",))
        owners |= dict.fromkeys(("gate_hidden_units", "fusion_heads"), ("finalmlp",))
        for name, dim in (self.embedding_dims or {}).items():
            if not 1 <= dim <= self.embedding_dim:
                raise ValueError(f"embedding_dims.{name} is {dim}: expected 1 to embedding_dim, {self.embedding_dim}")
        for option, backbones in owners.items():
            if getattr(self, option) is not None and self.backbone not in backbones:
                raise ValueError(
                    f"{option} is set, which backbone {self.backbone!r} does not have; it belongs to {', '.join(backbones)}"
                )
        if self.fusion_heads and self.hidden_units[-1] % self.fusion_heads:
            raise ValueError(
                f"fusion_heads ({self.fusion_heads}) must divide the last of hidden_units {self.hidden_units}"
            )
        return self


class AutoftConfig(Settings):
    """How AutoFT's policies decide; see docs/autoft.md."""

    hidden_units: list[int] = Field(default=[64])
    """Of the policy network, which reads the frozen field vectors of a row."""
    temperature_start: float = Field(default=1.0, gt=0)
    """Of the Gumbel-softmax at the first step."""
    temperature_end: float = Field(default=0.1, gt=0)
    """Of the Gumbel-softmax once it is annealed."""
    temperature_steps: int | None = Field(default=None, ge=1)
    """Training steps, counted on through the days, over which the temperature falls; none: those of the replay that
    starts from CPM."""
    tuned_prior: float | None = Field(default=None, gt=0, lt=1)
    """Probability of the tuned way that every decision begins with, whatever the row; none: what a fresh policy network gives."""
    policy_gain: float = Field(default=1.0, gt=0)
    """Factor of the policy network's outputs: Adam's steps have one size, so that decisions move as much faster."""
    cost: float = Field(default=0.0, ge=0)
    """Nats by which a row's loss grows with the mean probability of the tuned way."""
    random_share: float = Field(default=0.5, ge=0, le=1)
    """How likely the control `autoft_random` takes the tuned way, in training and in scoring."""

    @model_validator(mode="after")
    def _temperature_falls(self) -> "AutoftConfig":
        if self.temperature_end > self.temperature_start:
            raise ValueError(
                f"temperature_end ({self.temperature_end}) must not lie above temperature_start ({self.temperature_start})"
            )
        return self


class TransferConfig(Settings):
    """What A-CTR takes from the levels above it."""

    batch_norm: BatchNormStart = "full"
    """Copied as it is; new running statistics; new statistics and a new affine part."""
    batch_norm_warmup: bool = True
    """Whether A-CTR's running statistics, where they begin anew, begin as the mean over some of its own training rows;
    else as mean 0 and variance 1, which the first days' few steps do not forget. Of every arm alike."""
    batch_norm_warmup_batches: int = Field(default=16, ge=1)
    """How many batches of `levels.actr.training.batch_size` rows."""
    policy: FineTuning = "full"
    """How A-CTR learns from CPM's parameters: all of them; the output layer alone; or, row by row, the fields, the layers,
    or both, that a policy sends the tuned way (AutoFT). `autoft_random` is the control, which tosses coins."""
    autoft: AutoftConfig = AutoftConfig()
    prior_shift: bool = True
    """Whether the output bias moves from the natural click rate to that of the ads when A-CTR starts from CPM."""
    snapshot_lookup: SnapshotLookup = "as_of"
    """Which snapshots a training row may see: those that ended before its day, or the newest ones."""
    pin_snapshots: bool = False
    """Whether A-CTR keeps reading the TPM snapshots that what it started from was trained with: new ones then come with the
    next CPM version, whose attention has seen them. Else a new snapshot is read from the day on that it appears."""
    snapshot_pooling: PoolingMode = "attention"
    """How the snapshots of one id become one vector: self-attention then mean, the mean alone, the newest that knows
    the id, or all one after the other."""
    history_gate: bool = False
    """Whether CPM and A-CTR scale each row's historical vectors by a learned gate."""
    history_dropout: float = Field(default=0.0, ge=0, lt=1)
    """How likely CPM and A-CTR train a row without its user's historical vector, and, drawn for itself, without its item's."""
    history_of: HistoryOf = "both"
    """Whose historical vectors CPM and A-CTR read; in place of the others stands the vector of the unknown."""
    history_unit_length: bool = False
    """Whether historical vectors are divided by their length, which grows with the rows that trained them."""
    table_state: TableState = "fresh"
    """Of the tables' optimiser when A-CTR starts from CPM: as if no row was ever touched, or as CPM left it, so that what CPM has
    seen often moves less."""


class HoldoutConfig(Settings):
    """Ad rows that A-CTR never trains on, so that forgetting can be measured; `ecdctr compare` sets it."""

    since: dt.date
    """First day of which one lane, 1/`lanes` of the day's rows by a hash of the event, is held out."""
    until: dt.date
    """The day after the last one."""

    @model_validator(mode="after")
    def _has_days(self) -> "HoldoutConfig":
        if self.since >= self.until:
            raise ValueError(f"the window [{self.since}, {self.until}) has no day")
        return self


class JointConfig(Settings):
    """Arms that train one model on the rows of both domains; embeddings, attention and dropout are those of `model`."""

    ad_weight: float = Field(default=1.0, gt=0)
    """What an ad counts in the loss; a natural row counts 1."""
    mmoe: MMoEConfig = MMoEConfig()
    ple: PLEConfig = PLEConfig()
    star: STARConfig = STARConfig()
    minet: MiNetConfig = MiNetConfig()
    training: TrainingConfig = TrainingConfig()


class Config(Settings):
    """Everything a run depends on."""

    name: Annotated[str, AfterValidator(_safe_name)]
    """Names the warehouse and the run; by default the stem of the configuration file."""
    warehouse: Path = Path("warehouse")
    """Folder of all warehouses; the tables lie under `warehouse/NAME`."""
    runs: Path = Path("runs")
    """Folder of all runs; reports lie under `runs/NAME`."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    """Of parameters, order of rows, dropout and bootstrap."""
    ranks: int = Field(default=2, ge=1)
    """Training processes."""
    lanes: int = Field(default=4, ge=1)
    """Files per day of samples, dealt to the ranks; loss curves are equal for all ranks that divide it."""
    threads_per_rank: int = Field(default=0, ge=0)
    """0: the cores that this machine allows shared evenly by the ranks; on a cluster those of a Spark task (`spark.task.cpus`)."""
    bind_to_cores: bool = True
    """Keep each rank to cores of its own where a machine has exactly as many as its ranks have threads; false: the system moves them about."""
    stall_seconds: int = Field(default=60, ge=5)
    """A rank that is missing for longer ends the training of all."""
    local_exchange: Literal["shared_memory", "horovod"] = "shared_memory"
    """Carries tensors between ranks where all of them are on one machine; ranks on several machines always use Horovod."""
    walk_days: Days = 14
    """Days walked by default: the last ones of the ad log."""
    arms: list[ArmName] = Field(default=["ecdctr", "target_only"], min_length=1)
    """Ways to train the ad model; the first one is the report's, `target_only` what it is compared with."""
    dataset: DatasetConfig
    vocabularies: dict[str, VocabularyConfig] = Field(default_factory=dict)
    """By vocabulary name; others take `VocabularyConfig`'s defaults."""
    levels: LevelsConfig = LevelsConfig()
    model: ModelConfig = ModelConfig()
    transfer: TransferConfig = TransferConfig()
    holdout: HoldoutConfig | None = None
    joint: JointConfig = JointConfig()
    spark: SparkConfig = SparkConfig()
    quality: QualityConfig = QualityConfig()
    maintenance: MaintenanceConfig = MaintenanceConfig()
    hooks: list[HookConfig] = Field(default_factory=list)
    """What is called at the steps of a job, in this order."""

    @property
    def warehouse_dir(self) -> Path:
        """Folder of this configuration's tables."""
        return self.warehouse / self.name

    @property
    def run_dir(self) -> Path:
        """Folder of this configuration's reports."""
        return self.runs / self.name

    def vocabulary(self, name: str) -> VocabularyConfig:
        """Admission rules of one vocabulary."""
        return self.vocabularies.get(name, VocabularyConfig())

    def digest(self) -> str:
        """SHA-256 over all that decides a report: everything but where Spark runs and where files are put."""
        return _digest(self.model_dump(mode="json", exclude=_NOTHING_FOLLOWS_FROM))

    def model_digest(self, level: str = "actr") -> str:
        """SHA-256 over all that decides a model of a level: what only later levels read does not count."""
        tree = self.model_dump(
            mode="json", exclude=_NOTHING_FOLLOWS_FROM | dict.fromkeys(("name", "arms", "walk_days"), True)
        )
        tree["dataset"] = self.dataset.of_rows()
        for section, *key in _READ_LATER[level]:
            del (tree[section] if key else tree)[key[0] if key else section]
        return _digest(tree)

    @model_validator(mode="after")
    def _parts_fit(self) -> "Config":
        if self.lanes < self.ranks:
            raise ValueError(f"lanes ({self.lanes}) must be at least ranks ({self.ranks})")
        if len(set(self.arms)) != len(self.arms):
            raise ValueError("an arm is named twice")
        ids = {c.name for spec in self.dataset.features for c in spec.columns() if c.shape == "id"}
        missing = [name for name in self.levels.tpm.fields if name not in ids]
        if missing:
            raise ValueError(f"levels.tpm.fields names {missing}, but the fields with one id are {sorted(ids)}")
        known = token_sources(self.dataset.features)
        if unknown := sorted(set(self.vocabularies) - set(known)):
            raise ValueError(f"vocabularies names {unknown}, but those that grow are {sorted(known)}")
        return self
