"""Checks that do: a Delta table on Spark, Horovod loaded, numbers added over two ranks.

Run as a process of its own, `python -m ecdctr.doctor.trial FILE`, so that whoever asks can end it at a time limit and
keeps its own process free of a JVM. Each finished check is one JSON line in FILE, flushed at once.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ecdctr.config.schema import SparkConfig
from ecdctr.exceptions import EcdctrError, IntegrityError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STAGES = ("horovod", "spark and delta", "2-rank all-reduce")
RANKS = 2
ROWS = 1000
SETTINGS = SparkConfig(master=f"local[{RANKS + 1}]", driver_memory="1g")


def main(report: Path) -> int:
    """Try each stage; a later one is not tried once an earlier one has failed."""
    with report.open("w", encoding="utf-8") as sink, tempfile.TemporaryDirectory(prefix="ecdctr-doctor-") as folder:

        def note(name: str, action: Callable[[], str]) -> bool:
            started, hint = time.monotonic(), None
            try:
                detail = f"{action()}, {time.monotonic() - started:.1f} s"
                ok = True
            except EcdctrError as error:
                ok, detail, hint = False, error.message, error.hint
            except Exception as error:
                ok, detail = False, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            sink.write(json.dumps({"name": name, "ok": ok, "detail": detail, "hint": hint}) + "\n")
            sink.flush()
            return ok

        if not note(STAGES[0], load_horovod):
            return 1
        if not note(STAGES[1], lambda: use_delta(session(), Path(folder))):
            return 1
        return 0 if note(STAGES[2], lambda: reduce_over_ranks(session(), Path(folder))) else 1


def session() -> "SparkSession":
    """A small local session, the same at every call."""
    from ecdctr.lake.session import spark_session

    return spark_session(SETTINGS, "ecdctr doctor")


def load_horovod() -> str:
    """Horovod for torch, built with Gloo."""
    import pyarrow  # noqa: F401, I001  torch loaded before it can crash
    import horovod
    import horovod.torch as hvd

    if not hvd.gloo_built():
        raise IntegrityError("this Horovod was built without Gloo", hint="run `make setup` in a fresh clone")
    return f"Horovod {horovod.__version__} with Gloo"


def use_delta(spark: "SparkSession", folder: Path) -> str:
    """Write a Delta table twice, read both of its versions."""
    from ecdctr.lake.paths import spark_path

    table = spark_path(folder / "table")
    for _ in range(2):
        spark.range(ROWS).write.format("delta").mode("append").save(table)
    rows = [spark.read.format("delta").option("versionAsOf", version).load(table).count() for version in (0, 1)]
    if rows != [ROWS, 2 * ROWS]:
        raise IntegrityError(f"a Delta table of {ROWS} and {2 * ROWS} rows reads as {rows}")
    return f"Spark {spark.version}, two versions written and read"


def reduce_over_ranks(spark: "SparkSession", folder: Path) -> str:
    """Start ranks in processes of their own and add up a tensor over them."""
    from ecdctr.distributed.launch import RankSession

    with RankSession(
        spark, RANKS, folder / "mailbox", threads_per_rank=1, local_exchange="horovod", start_seconds=120
    ) as ranks:
        answers = ranks.call("probe", {"repeat": 20})
    processes = {answer["pid"] for answer in answers}
    expected = RANKS * (RANKS + 1) / 2
    if len(processes) != RANKS or any(answer["sum"] != expected for answer in answers):
        raise IntegrityError(f"{RANKS} ranks gave {answers}, expected {RANKS} processes and the sum {expected}")
    return f"{RANKS} processes, {answers[0]['microseconds']:.0f} µs each"


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
