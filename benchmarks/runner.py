"""One run of this project on the peers' click log, under the contract that `run_peers.py --extra` states.

Rank processes are started by the project's own session, read the Parquet files through Petastorm, train with Horovod and
publish a version; the time ends there. The test part is scored afterwards from the published version.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair

STARTED = time.time()


def main() -> None:
    """Train, publish, evaluate, and write the result file."""
    arguments = _arguments()
    if arguments.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    marks = {"script": STARTED}
    from benchmarks.clickbench import ClickBench

    data = ClickBench(arguments.data)
    task = data.task(
        arguments.model,
        work=arguments.work,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        ranks=arguments.ranks,
        training=json.loads(arguments.training),
    )
    marks["imported"] = time.time()
    threads = arguments.threads_per_rank or max(1, arguments.threads // arguments.ranks)
    with _session(arguments, threads) as session:
        marks["ranks_up"] = time.time()
        records = session.call("train_level", task.model_dump(mode="json"))
        marks["trained"] = time.time()
        startup = session.startup
    result = {
        "marks": marks,
        "startup": startup,
        "ranks": arguments.ranks,
        "threads_per_rank": threads,
        "rank_peak_rss_mb": [record["peak_rss_bytes"] / 2**20 for record in records],
        "steady_sps": records[0]["steady_samples_per_second"],
        "n_steps": records[0]["steps"],
        "rank_phases": [record["phases"] for record in records],
        "opening": records[0].get("opening", {}),
        "rank_seconds": [record["seconds"] for record in records],
        "train_log_loss": records[0]["train_log_loss"],
        "note": f"{arguments.ranks} Horovod ranks; row-wise Adagrad for the tables; Parquet through Petastorm while training",
    }
    result |= _evaluate(data, task.folder, arguments.model, arguments.threads)
    arguments.result.write_text(json.dumps(result, indent=1), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", choices=["deepfm", "din"], default="deepfm")
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2, help="of all ranks together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--threads-per-rank", type=int, default=0, help="0: the threads shared by the ranks")
    parser.add_argument("--cores", type=int, default=0, help="that all processes share; 0: those of the machine")
    parser.add_argument("--training", default="{}", help="further keys of a level's training section, as JSON")
    parser.add_argument("--local-exchange", choices=["shared_memory", "horovod"], default="shared_memory")
    parser.add_argument("--no-binding", action="store_true", help="let the system move the ranks from core to core")
    parser.add_argument("--spark", action="store_true", help="start the ranks through a Spark session")
    return parser.parse_args()


def _session(arguments: argparse.Namespace, threads: int) -> Any:
    from ecdctr.distributed.launch import RankSession

    spark = None
    if arguments.spark:
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.master(f"local[{arguments.ranks + 1}]").appName("clickbench")
        spark = builder.config("spark.ui.enabled", "false").getOrCreate()
    return RankSession(
        spark,
        arguments.ranks,
        arguments.work / "mailbox",
        threads,
        local_exchange=arguments.local_exchange,
        bind_to_cores=not arguments.no_binding,
    )


def _evaluate(data: Any, version: Path, model: str, threads: int) -> dict[str, float]:
    import torch

    from benchmarks.clickbench import SIZES
    from ecdctr.data.reader import iterate
    from ecdctr.data.shard_plan import FileRows, plan_lanes
    from ecdctr.metrics.auc import auc
    from ecdctr.metrics.likelihood import log_loss
    from ecdctr.models.registry import build
    from ecdctr.training.versions import load_version

    torch.set_num_threads(threads)
    features = data.features(model)
    rows = {name: data.meta["sizes"][name] for name in features.vocabularies}
    network = build(model, features=features, rows=rows, seed=0, **SIZES[model])
    load_version(network, version)
    network.eval()
    test = data.files("test")
    plan = plan_lanes(
        [FileRows(*file, constants=test.constants) for file in test.files], lanes=1, seed=0, shuffle=False
    )
    labels, scores = [], []
    with torch.no_grad():
        for batch in iterate(plan, 0, 1, features, 8192):
            labels.append(batch.label)
            scores.append(torch.sigmoid(network(batch).double()))
    label, score = torch.cat(labels).numpy(), torch.cat(scores).numpy()
    return {"auc": float(auc(label, score)), "logloss": float(log_loss(label, score))}


if __name__ == "__main__":
    main()
