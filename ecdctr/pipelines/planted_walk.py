"""Arms walked over a planted world in this process: the levels' own code over files in a folder, without Spark."""

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ecdctr.config import Config
from ecdctr.datasets.planted import Columns, World
from ecdctr.distributed.inline_session import InlineSession
from ecdctr.features.encoding import first_token_id
from ecdctr.lake.delta_log import PinnedFile
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.lake.tables import PinnedFiles
from ecdctr.metrics import paired_bootstrap
from ecdctr.pipelines.clock import DAY, day_number
from ecdctr.pipelines.daily import walk
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.workspace import Workspace

START = dt.date(2024, 1, 1)
FIRST_ID = first_token_id(1)
TABLES = {"natural_samples": "natural", "ad_samples": "ads"}
Array = np.ndarray[Any, Any]


class PlantedWorkspace(Workspace):
    """A workspace whose samples are one Parquet file a day, and whose one rank is this process.

    Args:
        config: Its warehouse is where files are written.
        world: The logs.
    """

    def __init__(self, config: Config, world: World) -> None:
        super().__init__(config)
        self.world = world
        self.session = InlineSession()
        self.samples = {
            table: _written(self.root / table, table, getattr(world, log), log == "ads")
            for table, log in TABLES.items()
        }

    def pinned(self, table: str) -> PinnedFiles:
        """See `Workspace.pinned`."""
        return self.samples[table]

    def rows_until(self, date: dt.date) -> dict[str, int]:
        """Rows of each vocabulary; all ids are known from the first day on."""
        return {name: FIRST_ID + rows for name, rows in self.world.rows.items()}

    def call(self, name: str, payload: dict[str, Any], label: str) -> list[dict[str, Any]]:
        """See `Workspace.call`."""
        return self.session.call(name, payload)


class PlantedPublisher(Publisher):
    """Versions of walks over one world, known in this process alone."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace)
        self.found: list[LedgerEntry] = []
        self.scores: dict[str, pa.Table] = {}

    def versions(self, level: str, arm: str) -> list[LedgerEntry]:
        """See `Publisher.versions`."""
        config = self.workspace.config
        own = (level, arm, config.model_digest(level), config.seed)
        return [entry for entry in self.found if (entry.level, entry.arm, entry.config_digest, entry.seed) == own]

    def flush(self) -> None:
        """Take over what was trained, and its predictions."""
        for trained in self.waiting:
            self.found.append(trained.entry)
            if trained.task.score_dir is not None:
                scored = Path(trained.task.score_dir) / "rank-0" / "scores.parquet"
                self.scores[trained.entry.version] = pq.read_table(scored)
        self.waiting.clear()

    def scored(self, arm: str) -> pa.Table:
        """All that the arm's versions have scored, by event."""
        own = self.versions("actr", arm)
        return pa.concat_tables(self.scores[entry.version] for entry in own).sort_by("event_id")

    def add(self, *arguments: Any, **further: Any) -> LedgerEntry:
        """See `Publisher.add`; known at once."""
        entry = super().add(*arguments, **further)
        self.flush()
        return entry


@dataclass(frozen=True)
class Walked:
    """What arms scored on the walked days of a world, all on the same rows.

    Attributes:
        label: (N,).
        user: (N,), numbers of users.
        returning: (N,), whether the user has come back with the walk.
        probabilities: By arm, (S, N) for S seeds.
        steps: Training steps by level, of the first seed.
    """

    label: Array
    user: Array
    returning: Array
    probabilities: dict[str, Array]
    steps: dict[str, int]

    def difference(self, arm: str, baseline: str, metric: str = "auc", *, returning: bool = False) -> dict[str, Any]:
        """metric(arm) - metric(baseline), mean over the seeds, with its interval over users."""
        rows = self.returning if returning else np.ones(len(self.label), dtype=bool)
        found = paired_bootstrap(
            self.label[rows], self.probabilities[arm][:, rows], self.probabilities[baseline][:, rows], self.user[rows],
            metric=metric, resamples=500,
        )  # fmt: skip
        assert found is not None
        return found


def walk_planted(world: World, config: Config, seeds: int, folder: Path) -> Walked:
    """Walk the arms of a configuration over a world.

    Args:
        world: The logs.
        config: Levels, model and arms; see `planted_config`.
        seeds: Seeds, from the configuration's on.
        folder: For files; one folder a seed below it.
    """
    window = (START + world.walk[0] * DAY, START + world.walk[1] * DAY)
    scores: dict[str, list[Array]] = {}
    steps: dict[str, int] = {}
    rows: pa.Table | None = None
    for seed in range(config.seed, config.seed + seeds):
        variant = config.model_copy(update={"seed": seed, "warehouse": folder / str(seed)})
        with PlantedWorkspace(variant, world) as opened:
            publisher = PlantedPublisher(opened)
            walk(opened, *window, publisher=publisher)
        for arm in config.arms:
            table = publisher.scored(arm)
            rows = table if rows is None else rows
            assert rows["event_id"].equals(table["event_id"])
            scores.setdefault(arm, []).append(table["probability"].to_numpy())
        if not steps:
            for entry in publisher.found:
                steps[entry.level] = steps.get(entry.level, 0) + json.loads(entry.metrics_json)["steps"]
    assert rows is not None
    user = rows["user_id"].to_numpy(zero_copy_only=False).astype(np.int64)
    return Walked(
        label=rows["label"].to_numpy(),
        user=user,
        returning=world.away[user],
        probabilities={arm: np.stack(parts) for arm, parts in scores.items()},
        steps=steps,
    )


def planted_config(arms: list[str], **sections: Any) -> Config:
    """A small configuration for planted worlds: one rank, one file a day.

    Args:
        arms: Their names.
        sections: Parts of the tree that replace those given here.
    """
    source = {"path": "planted"}
    columns = {"user": "user", "item": "item", "time": {"column": "day"}, "label": "label"}
    features = [{"name": "category", "kind": "id"}, {"name": "price", "kind": "number"}]
    tree: dict[str, Any] = {
        "name": "planted", "ranks": 1, "lanes": 1, "arms": arms,
        "dataset": {"natural": source, "ads": source, "columns": columns, "features": features},
        "model": {"embedding_dim": 8, "hidden_units": [32, 16]},
    }  # fmt: skip
    return Config.model_validate(tree | sections)


def _written(folder: Path, name: str, log: Columns, ads: bool) -> PinnedFiles:
    """One file a day, as samples tables have it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for day in np.unique(log["day"]).tolist():
        (at,) = np.nonzero(log["day"] == day)
        date = START + day * DAY
        columns: dict[str, Any] = {
            "user_id": log["user"][at] + FIRST_ID,
            "item_id": log["item"][at] + FIRST_ID,
            "category": log["category"][at] + FIRST_ID,
            "price": log["price"][at].astype(np.float32),
            "label": log["label"][at].astype(np.float32),
            "weight": np.ones(len(at), np.float32),
            "day": np.full(len(at), day_number(date), np.int32),
        }
        if ads:
            columns |= {
                "event_id": [f"{number:09d}" for number in at],
                "user": [str(user) for user in log["user"][at]],
            }
        path = folder / f"{date}.parquet"
        pq.write_table(pa.table(columns), path)
        files.append(PinnedFile(str(path), len(at), path.stat().st_size, date))
    return PinnedFiles(name, 1, len(log["day"]), tuple(files))
