"""Which version serves: the alias `serving` of the ledger, moved by `models promote` and `models rollback`."""

import datetime as dt
import functools
import logging
from collections.abc import Callable
from typing import Any

from ecdctr.exceptions import AlreadyDone, InputError, IntegrityError, NotReadyError
from ecdctr.hooks import PromoteEvent
from ecdctr.lake.leases import exclusive
from ecdctr.lake.ledger import LedgerEntry
from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.clock import day_number
from ecdctr.pipelines.inspect import require
from ecdctr.pipelines.publish import Publisher
from ecdctr.pipelines.workspace import Workspace
from ecdctr.scoring.serving_embeddings import TABLE as EMBEDDINGS
from ecdctr.scoring.serving_embeddings import append_serving_embeddings, has_serving_embeddings
from ecdctr.training.published import Published, opened
from ecdctr.training.structure import Structure
from ecdctr.transfer.snapshots import ENTITIES

logger = logging.getLogger(__name__)

LEVEL = "actr"
ALIAS = "serving"
CONTROL = "autoft_random"


def promote(workspace: Workspace, version: str) -> dict[str, Any]:
    """Have a published version of the ad model serve, by one row of the ledger.

    Args:
        workspace: Opened on the warehouse.
        version: The version.

    Returns:
        What serves now, and what served before.

    Raises:
        InputError: No such version, one that cannot serve, or somebody else moved the alias meanwhile.
        IntegrityError: Its files, its snapshots' files or its parents are missing or damaged.
        AlreadyDone: It serves already.
    """
    published = _published(workspace)
    require(version, published, "version", "ecdctr models list")
    before = workspace.ledger.alias(ALIAS)
    if before == version:
        raise AlreadyDone(f"{version} serves already")
    return _serve(workspace, published[version], before)


def rollback(workspace: Workspace, left: str | None = None) -> dict[str, Any]:
    """Have the version serve again that served before.

    Args:
        workspace: Opened on the warehouse.
        left: The version to go back from; with it a repeated call does not go back twice.

    Raises:
        InputError: Nothing served before, or what did cannot serve any more.
        IntegrityError: Its files are missing or damaged.
        AlreadyDone: `left` does not serve.
    """
    trail = workspace.ledger.trail(ALIAS)
    if left is not None:
        require(left, _published(workspace), "version", "ecdctr models list")
        if trail[-1:] != [left]:
            raise AlreadyDone(f"{left} does not serve; {trail[-1] if trail else 'no promoted version'} does")
    if len(trail) < 2:
        found = f"no version served before {trail[0]}" if trail else "no version was ever promoted"
        raise InputError(f"there is nothing to go back to: {found}", hint="ecdctr models promote VERSION")
    return _serve(workspace, _published(workspace)[trail[-2]], trail[-1])


def serving_version(
    workspace: Workspace, version: str | None = None, arm: str | None = None, date: dt.date | None = None
) -> LedgerEntry:
    """The version that serves.

    Args:
        workspace: Opened on the warehouse.
        version: A certain one.
        arm: The newest of this arm, for the configuration and seed; beside `version` the arm that it must be of.
        date: The day whose rows are to be scored, which the version may not have seen.

    Returns:
        The one asked for; without either the one that the alias means; where none was promoted, the newest of the first
        arm of the configuration, up to `date`.

    Raises:
        InputError: No such version or arm, one of another level or of another arm than is said, or one that has seen rows of `date`.
        NotReadyError: No version of the arm.
    """
    named = version or (None if arm else workspace.ledger.alias(ALIAS))
    if named is not None:
        published = _published(workspace)
        require(named, published, "version", "ecdctr models list")
        entry = published[named]
        _refuse_other_level(entry)
        if arm is not None and entry.arm != arm:
            raise InputError(
                f"{named} is of arm {entry.arm}, but --arm {arm} was given beside --version",
                hint=f"leave out one of the two: --arm {arm} alone takes its newest version",
            )
        if date is not None and entry.window_until > date:
            raise InputError(
                f"{named} was trained on days up to {entry.window_until - dt.timedelta(days=1)}: it has seen {date} or later",
                hint=f"score a later day, or name a version of {date} or before with --version",
            )
        return entry
    name = arm or workspace.config.arms[0]
    require(name, ARMS, "arm", "docs/compare.md")
    versions = Publisher(workspace).versions(LEVEL, name)
    versions = [entry for entry in versions if date is None or entry.window_until <= date]
    if not versions:
        by = "" if date is None else f" by {date}"
        raise NotReadyError(
            f"no version of level {LEVEL} and arm {name} is published in {workspace.root} for this configuration and seed{by}",
            hint="ecdctr run, or ecdctr train actr --date DATE; ecdctr models list shows what there is",
        )
    return versions[-1]


def refuse_broken(workspace: Workspace, entry: LedgerEntry) -> Structure:
    """Refuse a version that could not serve: compare all its files, and those of the snapshots that it reads, with their digests.

    Returns:
        What it is made of.

    Raises:
        InputError: Another level, a control of comparisons, or ids of another generation of the vocabulary.
        IntegrityError: Files or parents are missing or damaged.
    """
    _refuse_other_level(entry)
    workspace.refuse_other_generation(entry)
    published = _published(workspace)
    gone = [name for name in entry.parents if name not in published]
    if gone:
        raise IntegrityError(
            f"{entry.version} was made from {', '.join(gone)}, which the ledger does not have",
            hint="choose another version (ecdctr models list)",
        )
    for name in (entry.artifact, *(published[parent].artifact for parent in entry.parents)):
        _require_folder(workspace, entry, name)
    workspace.store.verify(entry.artifact)
    structure = Structure.read(workspace.store.path(entry.artifact))
    for snapshot in structure.history.snapshots if structure.history is not None else []:
        _require_folder(workspace, entry, snapshot.folder)
        workspace.store.verify(snapshot.folder)
    if structure.fine_tune is not None and structure.fine_tune.kind == CONTROL:
        raise InputError(
            f"{entry.version} tosses a coin for each row (arm {entry.arm}): it is a control, and no model to serve",
            hint="choose a version of another arm (ecdctr models list)",
        )
    return structure


def opener(workspace: Workspace, entry: LedgerEntry) -> Callable[[], Published]:
    """What opens a version wherever it is called, such as in Spark's workers; in one process the same object again."""
    return functools.partial(opened, str(workspace.store.path(entry.artifact)), str(workspace.store.root))


def write_serving_embeddings(workspace: Workspace, entry: LedgerEntry, structure: Structure) -> None:
    """Put the aggregated historical vectors of a version into the table `serving_embeddings`, where they are missing.

    They are those that a request of the version's own day reads: of the snapshots that it pins, the ones that day sees.

    Args:
        workspace: Opened on the warehouse.
        entry: The version; one that reads no historical embeddings has no rows.
        structure: What it is made of.
    """
    history = structure.embeddings(workspace.store.root)
    if history is None or has_serving_embeddings(workspace.lake, entry.version):
        return
    rows = {entity: history.rows(entity) for entity in ENTITIES}
    with Publisher(workspace).told(EMBEDDINGS, [entry], "tpm_embeddings"):
        append_serving_embeddings(workspace.lake, entry.version, rows, day_number(entry.date), opener(workspace, entry))


def _serve(workspace: Workspace, entry: LedgerEntry, before: str | None) -> dict[str, Any]:
    # Not beside a clean-up, which may have found the version out of use.
    with exclusive(workspace.root, "vacuum"):
        write_serving_embeddings(workspace, entry, refuse_broken(workspace, entry))
        workspace.ledger.set_alias(ALIAS, entry.version, before)
    logger.info("%s serves, after %s", entry.version, before or "none")
    workspace.hooks.fire(PromoteEvent, version=entry.version, arm=entry.arm, date=entry.date, before=before)
    return {"version": entry.version, "arm": entry.arm, "date": str(entry.date), "before": before}


def _published(workspace: Workspace) -> dict[str, LedgerEntry]:
    return {entry.version: entry for entry in workspace.ledger.versions()}


def _refuse_other_level(entry: LedgerEntry) -> None:
    if entry.level != LEVEL:
        raise InputError(
            f"{entry.version} is a version of level {entry.level}, which does not serve",
            hint=f"choose one of level {LEVEL} (ecdctr models list)",
        )


def _require_folder(workspace: Workspace, entry: LedgerEntry, artifact: str) -> None:
    if not workspace.store.path(artifact).exists():
        what = "its files" if artifact == entry.artifact else f"the files of {artifact}, which it was made from,"
        raise IntegrityError(
            f"{entry.version} cannot serve: {what} are gone from {workspace.store.root}",
            hint="choose a version that has its files (ecdctr models list); tables vacuum removes those of versions out of use",
        )
