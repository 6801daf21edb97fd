"""`score`: rows of the ad log → click probabilities by the version that serves, on Spark."""

import datetime as dt
import hashlib
import logging
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ecdctr.etl.made_with import refuse_other_preparation
from ecdctr.etl.notes import prepared_until
from ecdctr.etl.requests import ITEM_TEXT, encode_requests, read_requests
from ecdctr.etl.source import reading
from ecdctr.exceptions import InputError, NotReadyError
from ecdctr.lake.leases import exclusive
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.lake.outputs import refuse_other_content, replace_day
from ecdctr.lake.pinned import PinnedLake
from ecdctr.lake.schema import SCORES, TABLES
from ecdctr.pipelines.serving import opener, refuse_broken, serving_version, write_serving_embeddings
from ecdctr.pipelines.workspace import Workspace
from ecdctr.scoring.batch_scores import with_probabilities

logger = logging.getLogger(__name__)

KEPT = ("event_id", "event_date", "user", ITEM_TEXT)


def score_table(
    workspace: Workspace, date: dt.date, given: str, out: str, *, version: str | None = None, arm: str | None = None
) -> dict[str, Any]:
    """Score the rows of one day, and replace that day in the output by them in one commit.

    Args:
        workspace: Opened on the warehouse, prepared up to `date` at least.
        date: The day.
        given: Rows with the columns of the ad log: a Delta table, or a file or folder of Parquet or CSV.
        out: Folder of a Delta table, which is created where it is not there.
        version: Which version; None: the one that serves, see `serving_version`.
        arm: Whose newest version that has not seen the day.

    Returns:
        The version, the rows, and where they are.

    Raises:
        InputError: Rows that do not fit the mapping, an unknown version, one that cannot serve, has seen the day or reads
            other features, or an output that is something else.
        ConfigError: Tables that were prepared with other features.
        NotReadyError: Tables that are not prepared up to the day, no version, or no row of the day.
        IntegrityError: The version's files are missing or damaged.
        TemporaryError: Another job wrote the output first, or is writing it for too long.
    """
    started = time.perf_counter()
    _refuse_overlap(workspace, given, out)
    entry = serving_version(workspace, version, arm, date)
    _refuse_other_features(workspace, entry)
    refuse_other_preparation(workspace.lake, workspace.config)
    until = prepared_until(workspace.lake)
    if until is None or until < date:
        raise NotReadyError(
            f"the tables are prepared {f'for days before {until}' if until else 'for no day'}; features of {date} are made "
            "of all days before it",
            hint=f"ecdctr prepare --until {date}, then score again",
        )
    structure = refuse_broken(workspace, entry)
    spark = workspace.spark
    refuse_other_content(spark, out, SCORES)
    rows = read_requests(spark, workspace.config, given, date).persist()
    try:
        write_serving_embeddings(workspace, entry, structure)
        lake = PinnedLake(workspace.lake, workspace.lease)
        encoded = encode_requests(lake, workspace.config, workspace.all_features, rows, date)
        scored = with_probabilities(encoded, KEPT, opener(workspace, entry)).withColumnsRenamed(
            {"user": "user_id", ITEM_TEXT: "item_id"}
        )
        named = scored.selectExpr("*", f"'{entry.version}' AS model_version")
        with reading("--input", given), _turn(workspace.root, out):
            count = replace_day(spark, out, SCORES, named, date)
    finally:
        rows.unpersist()
    seconds = round(time.perf_counter() - started, 3)
    logger.info("%s rows of %s are scored by %s", f"{count:,}", date, entry.version)
    return {
        "version": entry.version, "arm": entry.arm, "date": str(date), "rows": count, "output": out, "seconds": seconds,
    }  # fmt: skip


def _turn(root: Path, out: str) -> AbstractContextManager[None]:
    """A block in which no other job of the warehouse writes to the same output; see `Lake.committing`.

    Raises:
        TemporaryError: Another job did not end.
    """
    if "://" in out:
        return nullcontext()
    return exclusive(root, f"score-{hashlib.sha256(str(Path(out).resolve()).encode()).hexdigest()[:16]}")


def _refuse_overlap(workspace: Workspace, given: str, out: str) -> None:
    """The output may be neither what is read nor what the warehouse consists of."""
    if given.rstrip("/") == out.rstrip("/"):
        raise InputError(f"--output {out} is the input", hint="name another folder for the scores")
    if "://" in out:
        return
    target = Path(out).resolve()
    source = target if "://" in given else Path(given).resolve()
    if "://" not in given and (target.is_relative_to(source) or source.is_relative_to(target)):
        raise InputError(
            f"--output {out} and --input {given} lie in one another", hint="name another folder for the scores"
        )
    root = workspace.root.resolve()
    inside = target.relative_to(root).parts if target.is_relative_to(root) else ("",)
    if root.is_relative_to(target) or inside[0] in TABLES or inside[0].startswith("_"):
        raise InputError(f"--output {out} belongs to the warehouse {root}", hint="name another folder for the scores")


def _refuse_other_features(workspace: Workspace, entry: LedgerEntry) -> None:
    if entry.feature_fingerprint != workspace.features.fingerprint():
        raise InputError(
            f"{entry.version} reads other features than this configuration makes",
            hint="score with the configuration that it was trained with, or name another version with --version",
        )
