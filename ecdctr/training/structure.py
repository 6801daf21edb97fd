"""What a version is made of, stored beside its parameters: enough to build it again without its configuration."""

from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from ecdctr.artifacts.files import write_json
from ecdctr.exceptions import IntegrityError
from ecdctr.features import FeatureSet
from ecdctr.models.base import CTRModel
from ecdctr.models.full import FullModel
from ecdctr.models.registry import build
from ecdctr.settings import Settings
from ecdctr.training.task import FineTune, History, LevelTask, as_feature_set
from ecdctr.transfer.fine_tuning import fine_tune
from ecdctr.transfer.frozen_tower import FrozenTower
from ecdctr.transfer.snapshots import HistoricalEmbeddings, SnapshotFiles

FILE = "structure.json"


class Structure(Settings):
    """A model without its parameters."""

    features: dict[str, Any]
    rows: dict[str, int]
    """Known rows of each vocabulary."""
    backbone: str
    options: dict[str, Any]
    seed: int
    fine_tune: FineTune | None
    tower: bool
    """Whether a frozen source network stands beside the model."""
    history: History | None
    """The snapshots that the version was trained to read: the folder of each is its name in the artifact store."""
    in_order: bool = False
    """Whether the features stand in their own order, which is that of the field vectors; once they were sorted by name."""

    @classmethod
    def of(cls, task: LevelTask) -> Self:
        """That of a level's task."""
        history = task.history
        if history is not None:
            named = [each.model_copy(update={"folder": Path(each.folder).name}) for each in history.snapshots]
            history = history.model_copy(update={"snapshots": named})
        return cls(
            features=task.features, rows=task.rows, backbone=task.backbone, options=task.options, seed=task.seed,
            fine_tune=task.fine_tune, tower=task.tower is not None, history=history,
            in_order=True,
        )  # fmt: skip

    @classmethod
    def read(cls, folder: Path) -> Self:
        """That of a published version.

        Raises:
            IntegrityError: The version does not say it, or says what is not understood.
        """
        hint = "it was published by an older ecdctr: train it again, or choose a newer version"
        try:
            found = cls.model_validate_json((folder / FILE).read_text())
        except (OSError, ValidationError) as error:
            raise IntegrityError(
                f"version {folder.name} does not say how it is built: {FILE} is missing or cannot be read",
                hint=hint,
            ) from error
        lists = set(found.features["sequence_fields"]) - set(found.features.get("aligned", ()))
        if not found.in_order and len(lists) > 1:
            raise IntegrityError(
                f"version {folder.name} does not say how it is built: the order of {', '.join(sorted(lists))} is lost",
                hint=hint,
            )
        return found

    def write(self, folder: Path) -> None:
        """Put it beside the parameters of a version."""
        write_json(folder / FILE, self.model_dump(mode="json"), sort_keys=False)

    def feature_set(self) -> FeatureSet:
        """The sample contract."""
        return as_feature_set(self.features)

    def build(self, steps: int = 1) -> CTRModel:
        """The model with the initial values that follow from the seed.

        Args:
            steps: Training steps ahead, over which a policy's temperature falls where the settings do not say.
        """
        features = self.feature_set()
        options = self.options | ({"history_dim": self.history.dim} if self.history else {})
        model = build(self.backbone, features=features, rows=self.rows, seed=self.seed, **options)
        if self.fine_tune is not None:
            assert isinstance(model, FullModel)
            return fine_tune(model, self.fine_tune.kind, self.fine_tune.settings, self.seed, steps)
        if self.tower and isinstance(model, FullModel):
            twin = build(self.backbone, features=features.of_source(), rows=self.rows, seed=self.seed, **options)
            assert isinstance(twin, FullModel)
            return FrozenTower(model, twin)
        return model

    def embeddings(self, store: Path) -> HistoricalEmbeddings | None:
        """The historical embeddings that the model reads, from the artifact store; None: it reads none."""
        if self.history is None:
            return None
        return historical_embeddings(self.history, self.seed, store)


def historical_embeddings(history: History, seed: int, store: Path = Path()) -> HistoricalEmbeddings:
    """Snapshots as a model reads them.

    Args:
        history: Which ones, and how.
        seed: Of the control that gives every id the vectors of another one.
        store: Folder that their folders are relative to.
    """
    files = [SnapshotFiles(each.until_day, store / each.folder) for each in history.snapshots]
    return HistoricalEmbeddings(
        files, history.count, history.lookup, seed if history.shuffled else None, entities=history.entities,
        unit_length=history.unit_length,
    )  # fmt: skip
