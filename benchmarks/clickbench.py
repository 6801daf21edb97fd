"""The peers' click log as a task of this project's trainer: its columns are ids already, so nothing is prepared."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ecdctr.config.training import TrainingConfig
from ecdctr.features import FeatureSet
from ecdctr.training.task import Files, LevelTask, Start

# The sizes that all runners of the benchmark share.
SIZES: dict[str, dict[str, Any]] = {
    "deepfm": {"embedding_dim": 16, "hidden_units": [256, 128, 64], "batch_norm": False},
    "din": {
        "embedding_dim": 16,
        "hidden_units": [256, 128, 64],
        "attention_hidden_units": [64, 16],
        "batch_norm": False,
    },
}


class ClickBench:
    """A folder that the benchmark's own generator has written.

    Args:
        folder: Holds `meta.json`, `train/*.parquet`, `test/*.parquet`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))

    def files(self, part: str) -> Files:
        """The exact files of `train` or `test`; their rows weigh the same and have no day."""
        paths = sorted((self.folder / part).glob("*.parquet"))
        return Files(
            table=f"clickbench_{part}",
            version=0,
            files=[(str(path.absolute()), pq.read_metadata(path).num_rows) for path in paths],
            constants={"weight": 1.0, "day": 0.0},
        )

    def features(self, model: str) -> FeatureSet:
        """Twenty id fields and four numbers; for DIN the click history too."""
        ids, history = self.meta["cat"], self.meta["hist"]
        sequences = {history: self.meta["hist_len"]} if model == "din" else {}
        return FeatureSet(
            id_fields=tuple(ids),
            number_fields=tuple(self.meta["num"]),
            sequence_fields=sequences,
            vocabulary_of={name: name for name in ids} | dict.fromkeys(sequences, self.meta["hist_of"]),
            fixed_rows={},
            # No id lies beyond the sizes known, so the bucket is a row like any other.
            oov_buckets=dict.fromkeys(ids, 1),
            attention=dict.fromkeys(sequences, self.meta["hist_of"]),
        )

    def task(
        self, model: str, *, work: Path, batch_size: int, seed: int, ranks: int, training: dict[str, Any]
    ) -> LevelTask:
        """One epoch over the training part.

        Args:
            model: `deepfm` or `din`.
            work: Gets the published version and checkpoints.
            batch_size: Rows of a step over all ranks.
            seed: Of parameters and order.
            ranks: Processes that train.
            training: Further keys of `TrainingConfig`.
        """
        features = self.features(model)
        return LevelTask(
            version=f"{model}-{seed}",
            level="actr",
            arm="benchmark",
            features=json.loads(json.dumps(vars(features))),
            rows={name: self.meta["sizes"][name] for name in features.vocabularies},
            backbone=model,
            options=SIZES[model],
            training=TrainingConfig(batch_size=batch_size, **training),
            seed=seed,
            lanes=max(2, ranks),
            ranks=ranks,
            start=Start(kind="scratch"),
            train=[self.files("train")],
            store=str(work / "store"),
            checkpoints=str(work / "checkpoints"),
        )


def refuse_missing(parser: argparse.ArgumentParser, logs: Sequence[Path]) -> None:
    """End with a message where one of the folders is no log of the benchmark."""
    for log in logs:
        if not (log / "meta.json").exists():
            parser.error(
                f"{log} is no log of the peers' benchmark: `make bench-peers` makes those of BENCH_ROWS and BENCH_VOCAB below "
                "CTR_BENCH_CACHE; name another with --data"
            )
