"""Measures a training on 1, 2 and 4 ranks, fits the cost model to it, and writes docs/scale.md: `make bench-scale`.

Real ranks on this machine, DeepFM on a log of evenly drawn ids, tables replicated and sharded. Nothing of the page is
written by hand but its words.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.scale_model import EXCHANGES, Exchange, Workload

FIELDS, DIM, STATE = 8, 17, 1
RANKS = (1, 2, 4)
LANES = 4
REPEAT = 3
# Ids, and rows of a step on each rank: far apart, so that what a step costs and what a row costs can be told apart.
SIZES = ((100_000, 512), (1_000_000, 4096))


def main() -> None:
    """Measure, keep the runs as JSON, and write the page to stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40, help="of each run")
    parser.add_argument("--link-gbit", type=float, default=25.0, help="of each rank of the clusters that are predicted")
    parser.add_argument("--link-delay-us", type=float, default=25.0, help="between two ranks of them")
    parser.add_argument("--runs", type=Path, default=Path("runs/scale.json"))
    parser.add_argument(
        "--links", type=Path, default=Path("runs/links.json"), help="runs of benchmarks.links, where there are any"
    )
    parser.add_argument("--page-only", action="store_true", help="from the runs that are kept")
    arguments = parser.parse_args()
    if not arguments.page_only:
        found = measure(arguments.steps)
        arguments.runs.parent.mkdir(parents=True, exist_ok=True)
        arguments.runs.write_text(json.dumps(found, indent=1), encoding="utf-8")
    from benchmarks.scale_page import page

    found, links = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        for path in (arguments.runs, arguments.links)
    )
    print(page(found, arguments.link_gbit, arguments.link_delay_us, links))


def measure(steps: int) -> dict[str, Any]:
    """Every run, and what is measured once.

    Args:
        steps: Of each run.
    """
    from ecdctr.distributed.launch import RankSession

    before = os.getloadavg()[0]
    runs: list[dict[str, Any]] = []
    rounds: dict[int, float] = {}
    startup: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="ecdctr-scale-") as name:
        root = Path(name)
        for ranks in RANKS:
            files = {ids: write_log(root / f"log-{ids}-{ranks}", steps * batch * ranks, ids) for ids, batch in SIZES}
            with RankSession(
                None, ranks, root / f"mailbox-{ranks}", threads_per_rank=1, local_exchange="horovod"
            ) as session:
                startup[ranks] = session.startup
                rounds[ranks] = session.call("probe", {"repeat": 200})[0]["microseconds"]
                for ids, batch in SIZES:
                    for exchange in EXCHANGES if ranks > 1 else EXCHANGES[:1]:
                        repeated = []
                        for again in range(REPEAT):
                            work = Workload(batch, FIELDS, DIM, STATE, 0, ids)
                            task = level(root, files[ids], work, ranks, exchange, str(again))
                            repeated.append(one_run(session.call("train_level", task), work, ranks, exchange))
                        runs.append(min(repeated, key=lambda run: sum(run["phases"].values())))
        ids, batch = SIZES[-1]
        read = reading(root / f"log-{ids}-{RANKS[0]}", files_of(root / f"log-{ids}-{RANKS[0]}"), batch)
    return {
        "machine": {"cores": len(os.sched_getaffinity(0)), "load": [before, os.getloadavg()[0]]},
        "repeat": REPEAT,
        "runs": runs,
        "all_reduce_microseconds": rounds,
        "startup": startup,
        "init_seconds_per_id": initial_values(SIZES[-1][0]),
        "read": read,
    }


def files_of(folder: Path) -> list[tuple[str, int]]:
    """Files of a log, and the rows of each."""
    return [(str(path), pq.read_metadata(path).num_rows) for path in sorted(folder.glob("*.parquet"))]


def write_log(folder: Path, rows: int, ids: int) -> list[tuple[str, int]]:
    """Parquet files of evenly drawn ids, one per lane."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(ids)
    for lane in range(LANES):
        count = rows // LANES
        columns = {f"f{at}": rng.integers(3, ids // FIELDS, count) for at in range(FIELDS)}
        columns |= {"label": rng.random(count, dtype=np.float32).round()}
        pq.write_table(pa.table(columns), folder / f"{lane}.parquet", row_group_size=20_000)
    return files_of(folder)


def features() -> Any:
    """Id fields alone, each with a table of its own."""
    from ecdctr.features import FeatureSet

    names = tuple(f"f{at}" for at in range(FIELDS))
    return FeatureSet(
        id_fields=names,
        number_fields=(),
        sequence_fields={},
        vocabulary_of={name: name for name in names},
        fixed_rows={},
        oov_buckets=dict.fromkeys(names, 1),
        attention={},
    )


def level(
    root: Path, files: list[tuple[str, int]], work: Workload, ranks: int, exchange: Exchange, name: str
) -> dict[str, Any]:
    """The task of one run, as JSON; every rank has the same batch whatever their number."""
    from ecdctr.config.training import TablesConfig, TrainingConfig
    from ecdctr.training.task import Files, LevelTask, Start

    tables = TablesConfig(exchange=exchange)
    training = TrainingConfig(batch_size=work.batch * ranks, checkpoint_steps=10**9, tables=tables)
    version = f"{exchange}-{work.ids}-{ranks}-{name}"
    task = LevelTask(
        version=version, level="actr", arm="scale", features=json.loads(json.dumps(vars(features()))),
        rows=dict.fromkeys((f"f{at}" for at in range(FIELDS)), work.ids // FIELDS), backbone="deepfm",
        options={"embedding_dim": DIM - 1, "hidden_units": [64, 32], "batch_norm": False}, training=training, seed=1,
        lanes=LANES, ranks=ranks, start=Start(kind="scratch"),
        train=[Files(table="log", version=0, files=files, constants={"weight": 1.0, "day": 0.0})],
        store=str(root / "store"), checkpoints=str(root / "checkpoints" / version),
    )  # fmt: skip
    return task.model_dump(mode="json")


def one_run(records: list[dict[str, Any]], work: Workload, ranks: int, exchange: Exchange) -> dict[str, Any]:
    """What a run has shown: mean seconds per step and phase over ranks, bytes of tables, rows per second."""
    steps = records[0]["steps"]
    phases = {
        phase: sum(record["phases"][phase] for record in records) / ranks / steps for phase in records[0]["phases"]
    }
    network = records[0]["parameters"] - work.ids // FIELDS * FIELDS * DIM
    return {
        "ranks": ranks,
        "exchange": exchange,
        "work": asdict(replace(work, network=network)),
        "steps": steps,
        "phases": phases,
        "table_bytes": max(record["table_bytes"] for record in records),
        "peak_rss_bytes": max(record["peak_rss_bytes"] for record in records),
        "samples_per_second": records[0]["steady_samples_per_second"],
    }


def reading(folder: Path, files: list[tuple[str, int]], batch: int) -> dict[str, float]:
    """Rows per second of the reader alone in one process, and bytes of a row on disk."""
    from ecdctr.data.reader import iterate
    from ecdctr.data.shard_plan import FileRows, plan_lanes

    constants = {"weight": 1.0, "day": 0.0}
    plan = plan_lanes([FileRows(*file, constants=constants) for file in files], LANES, 0, True)
    since = time.perf_counter()
    rows = sum(len(part) for part in iterate(plan, 0, 1, features(), batch))
    seconds = time.perf_counter() - since
    size = sum(path.stat().st_size for path in folder.glob("*.parquet"))
    return {"rows_per_second": rows / seconds, "bytes_per_row": size / rows}


def initial_values(ids: int) -> float:
    """Seconds per id of drawing initial values."""
    from ecdctr.nn.embedding import EmbeddingTables

    tables = EmbeddingTables({"f": ids}, {"f": 1}, DIM, seed=1)
    since = time.perf_counter()
    rows = len(tables.weight)
    return (time.perf_counter() - since) / rows


if __name__ == "__main__":
    main()
