"""The task of training one level: everything that decides its result, as JSON."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ecdctr.config.schema import AutoftConfig, BatchNormStart, FineTuning, SnapshotLookup
from ecdctr.config.training import TrainingConfig
from ecdctr.features import FeatureSet
from ecdctr.features.domains import Domain
from ecdctr.settings import Settings


def as_feature_set(tree: dict[str, Any]) -> FeatureSet:
    """A sample contract from the fields that JSON has kept of it."""
    return FeatureSet(**{**tree, "id_fields": tuple(tree["id_fields"]), "number_fields": tuple(tree["number_fields"])})


class Files(Settings):
    """Exact Parquet files of one pinned table version, all of one domain."""

    table: str
    version: int
    files: list[tuple[str, int]]
    """Path and rows of each."""
    domain: Domain = "ad"
    weight: float = 1.0
    """What a row counts in the loss, beside its own weight."""
    constants: dict[str, float] = Field(default_factory=dict)
    """Columns of samples that the files do not have, and their value in every row; for example a weight of 1."""

    @property
    def rows(self) -> int:
        """Rows of all files together."""
        return sum(rows for _, rows in self.files)


class Start(Settings):
    """What the parameters are before the first step."""

    kind: Literal["scratch", "continue", "warm"]
    """`continue` takes parameters and optimiser state of the same model; `warm` copies by name with a new optimiser."""
    artifact: str | None = None
    version: str | None = None
    digest: str | None = None
    batch_norm: BatchNormStart = "keep"
    log_odds: float | None = None
    """Of the parent's training rows; where given, a warm start shifts the logits to the click rate of the new rows."""
    table_state: Literal["fresh", "copied"] = "fresh"
    """Of the tables' optimiser after a warm start: as if no row was ever touched, or as the parent left it."""


class FineTune(Settings):
    """How a model learns from its pre-trained twin."""

    kind: FineTuning
    settings: AutoftConfig


class Tower(Settings):
    """A published network that stays as it is beside the one that learns."""

    version: str
    artifact: str
    digest: str


class Snapshot(Settings):
    """One published snapshot of historical embeddings."""

    version: str
    until_day: int
    """Days since 1970 of the first day that the snapshot has not seen."""
    folder: str
    digest: str


class History(Settings):
    """The snapshots that rows may look up."""

    snapshots: list[Snapshot]
    count: int
    """Snapshots a row looks up, newest first."""
    lookup: SnapshotLookup
    dim: int
    shuffled: bool = False
    """Every id gets the vectors of another one, the same for CPM and A-CTR of one seed."""
    entities: list[str] = Field(default=["user", "item"])
    """Whose vectors are looked up."""
    unit_length: bool = False
    """Whether each vector is divided by its length."""


class ExpiredIds(Settings):
    """Ids that are read as their buckets, because their tokens were not seen for too long."""

    folder: str
    digest: str
    counts: dict[str, int]
    """By vocabulary."""


class LevelTask(Settings):
    """One level on pinned inputs.

    Two tasks with one digest give the same parameters, bit for bit.
    """

    version: str
    level: Literal["tpm", "cpm", "actr"]
    arm: str
    features: dict[str, Any]
    rows: dict[str, int]
    """Known rows of each vocabulary; a later id is out of vocabulary."""
    backbone: str
    options: dict[str, Any]
    training: TrainingConfig
    seed: int
    lanes: int
    ranks: int
    start: Start
    train: list[Files] = Field(min_length=1)
    """Rows to train on: the level's own, then, with joint training, those of the other domain."""
    validation: list[Files] = Field(default_factory=list)
    """Rows of the days after those, by which early stopping tells the best epoch; none: all epochs are trained."""
    tower: Tower | None = None
    """The frozen source network; its known rows are in `rows` under its vocabularies' names, see `FeatureSet.of_source`."""
    history: History | None = None
    expired: ExpiredIds | None = None
    fine_tune: FineTune | None = None
    """None: every parameter is trained."""
    warmup_batches: int = Field(default=0, ge=0)
    """Batches of the training rows over which running statistics of batch normalisation begin as a mean; 0: as they are."""
    export_snapshot: bool = False
    score: Files | None = None
    score_day: int | None = None
    """Days since 1970 of the day that is scored; what else is to be scored are held-out rows of others."""
    score_dir: str | None = None
    store: str
    checkpoints: str

    @model_validator(mode="after")
    def _has_a_twin(self) -> "LevelTask":
        if self.fine_tune is not None and self.start.kind == "scratch":
            raise ValueError(f"fine_tune ({self.fine_tune.kind}) asks for a parent to start from, not for 'scratch'")
        return self

    def feature_set(self) -> FeatureSet:
        """The sample contract of the task."""
        return as_feature_set(self.features)

    def digest(self) -> str:
        """SHA-256 over all that decides the parameters: of files their names, not where they lie or which version of a table has them."""
        elsewhere: Any = {
            "version": True, "store": True, "checkpoints": True, "score": True, "score_day": True, "score_dir": True,
            "training": {"tables"},
            "start": {"artifact"}, "tower": {"artifact"}, "history": {"snapshots": {"__all__": {"folder"}}},
            # Where nothing expires a task is what it was before anything could.
            "expired": {"folder"} if self.expired else True,
        }  # fmt: skip
        tree = self.model_dump(mode="json", exclude=elsewhere)
        for files in (*tree["train"], *tree["validation"]):
            del files["version"]
            # A table's files have names of their own, below folders that tell their day.
            files["files"] = [("/".join(Path(path).parts[-2:]), rows) for path, rows in files["files"]]
        return hashlib.sha256(json.dumps(tree).encode()).hexdigest()

    @property
    def train_rows(self) -> int:
        """Rows of one epoch."""
        return sum(files.rows for files in self.train)

    @property
    def folder(self) -> Path:
        """Where the version will lie."""
        return Path(self.store) / self.version


class ScoringTask(Settings):
    """Scoring rows with a version that is published."""

    version: str
    files: Files
    training: TrainingConfig
    """Of the version's level: where tables lie and how they are dealt."""
    seed: int
    lanes: int
    store: str
    score_dir: str
