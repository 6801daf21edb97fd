"""`export`: a published ad model as one file that serves, held to the model on real rows before it is put there."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ecdctr.artifacts.files import new_file
from ecdctr.data.batch import Batch
from ecdctr.data.reader import iterate
from ecdctr.data.shard_plan import FileRows, plan_lanes
from ecdctr.exceptions import InputError
from ecdctr.features import FeatureSet
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.models.base import CTRModel
from ecdctr.pipelines.clock import day_number
from ecdctr.pipelines.serving import LEVEL, refuse_broken, serving_version
from ecdctr.pipelines.workspace import Workspace
from ecdctr.scoring.compiled import Compiled, account, settled
from ecdctr.scoring.parity import check, expected
from ecdctr.scoring.program import FORMATS, OUTPUT, Format, load, parameters, trace, write
from ecdctr.scoring.serving import ServingModel
from ecdctr.training.expiry import Expired
from ecdctr.training.versions import load_version
from ecdctr.transfer.autoft import AutoFT
from ecdctr.transfer.snapshots import HistoricalEmbeddings

logger = logging.getLogger(__name__)

BATCH = 1024
ROWS = 20_000
TOLERANCE = 1e-5


def export_model(
    workspace: Workspace,
    out: Path,
    form: str,
    *,
    level: str = LEVEL,
    version: str | None = None,
    arm: str | None = None,
    compiled: bool = True,
    rows: int = ROWS,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Write a published version as a serving file.

    The historical embeddings are aggregated as the version was trained to read them: of the snapshots that it pins, those
    that a request of its own day sees. `out` is replaced once the written file has given the model's probabilities.

    Args:
        workspace: Opened on the warehouse.
        out: The file.
        form: `onnx` or `pt2`.
        level: The one that serves, `actr`.
        version: Which version; None: the one that the alias `serving` means, else the newest of the arm.
        arm: Whose newest version; None: the first one of the configuration.
        compiled: Whether what AutoFT's policies decide alike for all looked-at rows is served by one copy.
        rows: How many of the newest ad samples up to the version's day are looked at.
        tolerance: Largest difference of probabilities from the model.

    Returns:
        Version, file, sizes, inputs, what was compiled and how near the file is to the model.

    Raises:
        InputError: Another level or format, an unknown version or arm, an arm that cannot serve, ids of another generation of the
            vocabulary, a file that cannot be written.
        NotReadyError: No version, or no samples to hold the file to.
        IntegrityError: The file differs from the model, files of the version, of its snapshots or of its parents are missing or
            damaged, or the version does not say how it is built.
    """
    made = _known_format(form)
    if level != LEVEL:
        raise InputError(f"level {level!r} does not serve", hint=f"export --level {LEVEL}: the ad model")
    if rows < 1 or not tolerance > 0:
        raise InputError(f"{rows} rows and a tolerance of {tolerance} were asked for", hint="both must be above 0")
    entry = serving_version(workspace, version, arm)
    structure = refuse_broken(workspace, entry)
    folder, store = workspace.store.path(entry.artifact), workspace.store.root
    features, day = structure.feature_set(), day_number(entry.date)
    with new_file(out, f".{made}") as path:
        history = structure.embeddings(store)
        batches = _rows(workspace, entry, features, history, rows)
        model = structure.build()
        load_version(model, folder)
        model.eval()
        expired = Expired.of_version(folder, features)
        seen = [expired.hide(replace(batch)) for batch in batches]
        wanted = expected(model, seen)
        for tables in (model.tables, *model.twin_tables()):
            expired.read_as_buckets(tables)
        served, done = _served(model, history, day, seen if compiled else [])
        program = trace(served, features)
        about = {
            "version": entry.version, "arm": entry.arm, "digest": entry.digest, "day": str(entry.date),
            "inputs": _inputs(features), "output": OUTPUT, "parameters": parameters(program),
            "policies": done.as_dict() if done is not None else None,
        }  # fmt: skip
        write(program, path, made, about)
        parity = check(load(path, made), batches, features, wanted, tolerance)
    logger.info(
        "%s: %s, %s parameters, within %.2g of the model on %s rows",
        out, entry.version, f"{about['parameters']:,}", parity.max_difference, f"{parity.rows:,}",
    )  # fmt: skip
    return about | {"file": str(out), "format": made, "bytes": out.stat().st_size, "parity": parity.as_dict()}


def _known_format(form: str) -> Format:
    found = [known for known in FORMATS if known == form]
    if not found:
        raise InputError(f"{form!r} is no format", hint=f"choose one of {', '.join(FORMATS)}")
    return found[0]


def _rows(
    workspace: Workspace,
    entry: LedgerEntry,
    features: FeatureSet,
    history: HistoricalEmbeddings | None,
    wanted: int,
) -> list[Batch]:
    """The newest ad samples up to the version's day, as requests of that day."""
    files = [f for f in workspace.pinned("ad_samples").files if f.event_date is not None and f.event_date <= entry.date]
    chosen: list[FileRows] = []
    for file in sorted(files, key=lambda f: (f.event_date, f.path), reverse=True):
        if sum(part.rows for part in chosen) < wanted:
            chosen.append(FileRows(file.path, file.rows))
    found: list[Batch] = []
    for batch in iterate(plan_lanes(chosen, lanes=1, seed=0, shuffle=False), 0, 1, features, BATCH):
        left = wanted - sum(map(len, found))
        if left <= 0:
            break
        part = batch.slice(0, min(left, len(batch)))
        part.day = torch.full_like(part.day, day_number(entry.date))
        # The ad model serves ads: no row is of another domain.
        part.domain = None
        found.append(part if history is None else history.attach(part))
    return found


def _served(
    model: CTRModel, history: HistoricalEmbeddings | None, day: int, judged: list[Batch]
) -> tuple[ServingModel, Compiled | None]:
    """The graph, and for AutoFT what compiling has dropped."""
    if not isinstance(model, AutoFT):
        return ServingModel(model, history, day), None
    if not judged:
        return ServingModel(model, history, day), Compiled(0, [], model.names)
    small, constant = settled(model, judged)
    served = ServingModel(small, history, day)
    return served, account(model, small, served, constant, sum(map(len, judged)))


def _inputs(features: FeatureSet) -> dict[str, list[Any]]:
    """Type and length of each input, in order; the first dimension of all is the number of rows."""
    columns: dict[str, list[Any]] = {name: ["int64"] for name in features.id_fields}
    columns |= {name: ["float32"] for name in features.number_fields}
    return columns | {name: ["int64", length] for name, length in features.sequence_fields.items()}
