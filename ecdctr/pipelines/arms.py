"""The arms of a comparison, as data: what each takes from the levels above the ad model (contract §7)."""

from dataclasses import dataclass
from typing import Any, Literal

from ecdctr.config import Config
from ecdctr.config.schema import (
    AutoftConfig,
    BatchNormStart,
    FineTuning,
    HistoryOf,
    PoolingMode,
    SnapshotLookup,
    TableState,
)
from ecdctr.exceptions import ConfigError


@dataclass(frozen=True)
class Reading:
    """How historical embeddings are read.

    Attributes:
        count: K, how many snapshots an id has.
        pooling: How they become one vector.
        lookup: Which snapshots a row may see.
        shuffled: Every id gets the vectors of another one.
        gate: Whether a learned gate scales the historical vectors.
        dropout: How likely each of a row's two vectors is left out in training.
        of: Whose are read.
        unit_length: Whether each vector is divided by its length.
    """

    count: int
    pooling: PoolingMode
    lookup: SnapshotLookup
    shuffled: bool = False
    gate: bool = False
    dropout: float = 0.0
    of: HistoryOf = "both"
    unit_length: bool = False


@dataclass(frozen=True)
class Twin:
    """What the ad model and its pre-trained twin have in common: arms with one twin share its CPM versions.

    Attributes:
        name: Of these CPM versions.
        embedding_dim: Length of every field's vector.
        history: How historical embeddings are read; None: not at all.
        every: Days between two of these versions.
    """

    name: str
    embedding_dim: int
    history: Reading | None
    every: int

    def options(self, config: Config) -> dict[str, Any]:
        """Options of the model, as `ecdctr.models.registry.build` takes them."""
        options = config.model.model_dump(exclude={"backbone"}) | {"embedding_dim": self.embedding_dim}
        if self.history is None:
            return options
        concatenated = self.history.count if self.history.pooling == "concat" else None
        return options | {
            "snapshot_pooling": self.history.pooling, "history_count": concatenated, "history_gate": self.history.gate,
            "history_dropout": self.history.dropout,
        }  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One way to train the ad model. What is None is as the configuration says.

    Attributes:
        name: As used in tables, reports and configs.
        pretrained: Starts from CPM; else from random parameters.
        history: Reads the aggregated historical embeddings of TPM.
        batch_norm: How batch normalisation is re-initialised after CPM.
        batch_norm_warmup: Whether its running statistics begin as a mean over training rows.
        snapshots: How many snapshots an id has.
        pooling: How they become one vector.
        lookup: Which snapshots a row may see.
        shuffled: Every id gets the vectors of another one: a control that must gain nothing.
        gate: Whether a learned gate scales the historical vectors.
        history_dropout: How likely each of a row's two vectors is left out in training.
        history_of: Whose historical vectors are read.
        unit_length: Whether each is divided by its length.
        table_state: Of the tables' optimiser after CPM.
        tuned_prior: Probability of the tuned way that AutoFT's decisions begin with.
        policy_gain: How much faster than the network they move.
        cpm_every: Days between two CPM versions, on each of which the ad model replays its window.
        widening: Factor of `model.embedding_dim`.
        policy: How it learns from CPM: all of it, its head alone, or by AutoFT.
        frozen: What of a CPM version the ad model reads and never changes: its `features` (the vectors of user and item),
            or its `tower` (hidden layers, through adapters).
        joint: The model of both domains that is trained on both tables; None: the backbone, on ads.
        title: For readers of the report.
    """

    name: str
    pretrained: bool
    history: bool
    batch_norm: BatchNormStart | None = None
    batch_norm_warmup: bool | None = None
    snapshots: int | None = None
    pooling: PoolingMode | None = None
    lookup: SnapshotLookup | None = None
    shuffled: bool = False
    gate: bool | None = None
    history_dropout: float | None = None
    history_of: HistoryOf | None = None
    unit_length: bool | None = None
    table_state: TableState | None = None
    tuned_prior: float | None = None
    policy_gain: float | None = None
    cpm_every: int | None = None
    widening: int = 1
    policy: FineTuning | None = None
    frozen: Literal["features", "tower"] | None = None
    joint: Literal["mmoe", "ple", "star", "minet"] | None = None
    title: str = ""

    @property
    def needs_cpm(self) -> bool:
        """Whether a CPM version must be there."""
        return self.pretrained or self.frozen is not None

    def options(self, config: Config) -> dict[str, Any]:
        """Options of the ad model, as `ecdctr.models.registry.build` takes them."""
        if self.joint is not None:
            shared = config.model.model_dump(
                include={"embedding_dim", "embedding_dims", "attention_hidden_units", "dropout"}
            )
            own: dict[str, Any] = getattr(config.joint, self.joint).model_dump()
            return shared | own | (_clicks_by_domain(config) if self.joint == "minet" else {})
        options = self.twin(config).options(config)
        # One vector per id: nothing to attend to.
        return options | ({"snapshot_pooling": "mean"} if self.frozen == "features" else {})

    def autoft(self, config: Config) -> AutoftConfig:
        """How its policies decide."""
        own = {"tuned_prior": self.tuned_prior, "policy_gain": self.policy_gain}
        return config.transfer.autoft.model_copy(update={key: value for key, value in own.items() if value is not None})

    def twin(self, config: Config) -> Twin:
        """The structure of this arm's model and the CPM versions that it starts from."""
        transfer = config.transfer
        usual = Reading(
            config.levels.tpm.snapshots, transfer.snapshot_pooling, transfer.snapshot_lookup, gate=transfer.history_gate,
            dropout=transfer.history_dropout, of=transfer.history_of, unit_length=transfer.history_unit_length,
        )  # fmt: skip
        reading = Reading(
            self.snapshots or usual.count, self.pooling or usual.pooling, self.lookup or usual.lookup, self.shuffled,
            usual.gate if self.gate is None else self.gate,
            usual.dropout if self.history_dropout is None else self.history_dropout, self.history_of or usual.of,
            usual.unit_length if self.unit_length is None else self.unit_length,
        )  # fmt: skip
        parts = ["history" if self.history else "plain"]
        if self.history:
            # Only what differs from the configuration is named: an arm that asks for the usual shares the usual CPM.
            parts += [f"snapshots_{reading.count}"] if reading.count != usual.count else []
            parts += [reading.pooling] if reading.pooling != usual.pooling else []
            parts += [reading.lookup] if reading.lookup != usual.lookup else []
            parts += ["shuffled"] if reading.shuffled else []
            parts += ["gate"] if reading.gate != usual.gate else []
            parts += [f"dropout_{reading.dropout:g}"] if reading.dropout != usual.dropout else []
            parts += [f"of_{reading.of}"] if reading.of != usual.of else []
            parts += ["unit" if reading.unit_length else "length"] if reading.unit_length != usual.unit_length else []
        dim = config.model.embedding_dim * self.widening
        parts += [f"dim_{dim}"] if self.widening != 1 else []
        every = self.cpm_every or config.levels.cpm.every
        parts += [f"every_{every}d"] if every != config.levels.cpm.every else []
        return Twin("-".join(parts), dim, reading if self.history else None, every)


def _clicks_by_domain(config: Config) -> dict[str, str]:
    """The first sequence of clicks on natural content alone, and on ads alone, as the options of `minet`.

    Raises:
        ConfigError: There is none of a domain.
    """
    found = {}
    for domain in ("natural", "ad"):
        lists = {spec.name: spec.clicks() for spec in config.dataset.features}
        names = [name for name, clicks in lists.items() if clicks is not None and clicks.domains == (domain,)]
        if not names:
            raise ConfigError(
                f"arm minet reads the clicks of both domains, but no sequence of dataset.features has domains: [{domain}]",
                hint=f"add {{name: {domain}_clicks, kind: sequence, domains: [{domain}]}} and prepare the tables anew",
            )
        found[f"{domain}_clicks"] = names[0]
    return found


def twins(arms: list[Arm], config: Config) -> list[Twin]:
    """The CPM variants that some arms start from, each once."""
    return list(dict.fromkeys(arm.twin(config) for arm in arms if arm.needs_cpm))


ARMS = {
    arm.name: arm
    for arm in (
        Arm("ecdctr", pretrained=True, history=True, title="E-CDCTR: all three levels"),
        Arm("ecdctr_no_tpm", pretrained=True, history=False, title="E-CDCTR without the long-term level"),
        Arm("ecdctr_no_cpm", pretrained=False, history=True, title="E-CDCTR without pre-training of the whole model"),
        Arm(
            "ecdctr_bn_keep", pretrained=True, history=True, batch_norm="keep",
            title="E-CDCTR, batch normalisation copied",
        ),
        Arm(
            "ecdctr_bn_statistics", pretrained=True, history=True, batch_norm="statistics",
            title="E-CDCTR, new running statistics, affine part copied",
        ),
        Arm(
            "ecdctr_bn_cold", pretrained=True, history=True, batch_norm_warmup=False,
            title="E-CDCTR, running statistics of batch normalisation from 0 and 1",
        ),
        Arm("ecdctr_snapshots_1", pretrained=True, history=True, snapshots=1, title="E-CDCTR, newest snapshot alone"),
        Arm("ecdctr_snapshots_2", pretrained=True, history=True, snapshots=2, title="E-CDCTR, two snapshots"),
        Arm("ecdctr_pool_mean", pretrained=True, history=True, pooling="mean", title="E-CDCTR, mean of the snapshots"),
        Arm("ecdctr_pool_concat", pretrained=True, history=True, pooling="concat", title="E-CDCTR, snapshots side by side"),
        Arm(
            "ecdctr_latest_snapshot", pretrained=True, history=True, lookup="latest",
            title="E-CDCTR, newest snapshots whatever the row's day",
        ),
        Arm(
            "ecdctr_shuffled_embeddings", pretrained=True, history=True, shuffled=True,
            title="Control: historical embeddings of somebody else",
        ),
        Arm("ecdctr_gate", pretrained=True, history=True, gate=True, title="E-CDCTR, historical embeddings behind a gate"),
        Arm(
            "ecdctr_history_dropout", pretrained=True, history=True, history_dropout=0.2,
            title="E-CDCTR, each of a row's two historical embeddings left out with probability 0.2 while training",
        ),
        Arm(
            "ecdctr_history_unit", pretrained=True, history=True, unit_length=True,
            title="E-CDCTR, historical embeddings of length one",
        ),
        Arm(
            "ecdctr_history_user", pretrained=True, history=True, history_of="user",
            title="E-CDCTR, historical embeddings of users alone",
        ),
        Arm(
            "ecdctr_history_item", pretrained=True, history=True, history_of="item",
            title="E-CDCTR, historical embeddings of items alone",
        ),
        Arm(
            "ecdctr_table_state", pretrained=True, history=True, table_state="copied",
            title="E-CDCTR, the tables' optimiser goes on from CPM",
        ),
        Arm(
            "ecdctr_retrained", pretrained=True, history=True, cpm_every=1,
            title="E-CDCTR, CPM and the ad model trained anew on their whole windows each day",
        ),
        Arm(
            "finetune", pretrained=True, history=False, batch_norm="keep", policy="full",
            title="Pre-train on natural content, fine-tune",
        ),
        Arm(
            "finetune_table_state", pretrained=True, history=False, batch_norm="keep", policy="full", table_state="copied",
            title="Pre-train, fine-tune, the tables' optimiser goes on",
        ),
        Arm(
            "autoft_field", pretrained=True, history=False, batch_norm="keep", policy="autoft_field",
            title="AutoFT from a plain pre-trained model, fields alone",
        ),
        Arm(
            "autoft_layer", pretrained=True, history=False, batch_norm="keep", policy="autoft_layer",
            title="AutoFT from a plain pre-trained model, layers alone",
        ),
        Arm(
            "autoft", pretrained=True, history=False, batch_norm="keep", policy="autoft",
            title="AutoFT from a plain pre-trained model",
        ),
        Arm(
            "autoft_random", pretrained=True, history=False, batch_norm="keep", policy="autoft_random",
            title="Control: fields and layers of AutoFT chosen by coins",
        ),
        Arm(
            "autoft_prior", pretrained=True, history=False, batch_norm="keep", policy="autoft", tuned_prior=0.9, policy_gain=10.0,
            title="AutoFT from a plain pre-trained model, beginning as full fine-tuning",
        ),
        Arm("ecdctr_autoft", pretrained=True, history=True, policy="autoft", title="E-CDCTR fine-tuned by AutoFT"),
        Arm(
            "ecdctr_autoft_prior", pretrained=True, history=True, policy="autoft", tuned_prior=0.9, policy_gain=10.0,
            title="E-CDCTR fine-tuned by AutoFT, beginning as full fine-tuning",
        ),
        Arm(
            "ecdctr_autoft_steady", pretrained=True, history=True, policy="autoft", tuned_prior=0.9, policy_gain=10.0,
            table_state="copied", title="The same, and the tables' optimiser goes on from CPM",
        ),
        Arm("target_only", pretrained=False, history=False, title="Ads only"),
        Arm("target_only_wide", pretrained=False, history=False, widening=2, title="Ads only, embeddings twice as long"),
        Arm(
            "frozen_features", pretrained=False, history=False, frozen="features",
            title="Ads only, reading the natural model's frozen vectors of user and item",
        ),
        Arm(
            "frozen_tower", pretrained=False, history=False, frozen="tower",
            title="Ads only, beside the frozen natural model, joined by gated adapters",
        ),
        Arm("mmoe", pretrained=False, history=False, joint="mmoe", title="Both domains together: MMoE"),
        Arm("ple", pretrained=False, history=False, joint="ple", title="Both domains together: PLE"),
        Arm("star", pretrained=False, history=False, joint="star", title="Both domains together: STAR"),
        Arm("minet", pretrained=False, history=False, joint="minet", title="Both domains together: MiNet"),
    )
}  # fmt: skip
