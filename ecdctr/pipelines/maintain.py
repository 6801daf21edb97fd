"""`tables vacuum` and `tables compact`: clean-up that honours live models and running jobs."""

import datetime as dt
from typing import Any

from ecdctr.artifacts.leftovers import discard, leftovers, out_of_use
from ecdctr.etl.prepare import compact_vocabulary
from ecdctr.exceptions import AlreadyDone
from ecdctr.lake.leases import exclusive, leased
from ecdctr.lake.maintenance import COMPACTED, compact, live_models, pins_of, plan_sweeps, sweep
from ecdctr.pipelines.workspace import Workspace

WAY_BACK = 3
"""How many versions of an alias stay: the one it means, and those that as many rollbacks less one come to."""


def vacuum(workspace: Workspace, *, remove: bool, now: dt.datetime | None = None) -> dict[str, Any]:
    """What no live model, running job or recent reader needs, by table; versions out of use; what trainings left that were given up.

    Of versions out of use the ad models and CPM go. Those of TPM stay: rows of any day look up the snapshots before it.

    Args:
        workspace: The opened workspace.
        remove: False: only say what would go.
        now: The present moment (UTC).

    Raises:
        InputError: A version that a live model or a running job names cannot be read.
        AlreadyDone: There is nothing to remove.
    """
    settings = workspace.config.maintenance
    now = now or dt.datetime.now(dt.UTC)
    with exclusive(workspace.root, "vacuum"):
        # Before the ledger: a job that publishes and ends between the two is in both, the other way round in neither.
        held = leased(workspace.root)
        ledger = workspace.ledger
        published = ledger.versions()
        served = [version for name in ledger.aliases() for version in ledger.trail(name)[-WAY_BACK:]]
        live = live_models(published, served, now - dt.timedelta(days=settings.models))
        pins = pins_of(live.models.values())
        for table, versions in held.items():
            pins.setdefault(table, set()).update(versions)
        before = now - dt.timedelta(days=settings.retention)
        plans = plan_sweeps(workspace.root, pins, before)
        left = leftovers(workspace.root, {entry.artifact for entry in published}, before.timestamp())
        unused = {entry.artifact for entry in published if entry.level != "tpm"} - live.artifacts
        # A running job may have opened any version.
        old = [] if held else out_of_use(workspace.root, unused)
        if remove:
            if not (left or old or any(plan.files for plan in plans)):
                raise AlreadyDone("there is nothing to remove", hint="files go when maintenance.retention has passed")
            # First: nobody can have begun to serve one of them, which waits for the end of a clean-up.
            for each in (*old, *left):
                discard(each)
            for plan in plans:
                sweep(plan)
    return {
        "removed": remove,
        "live_models": len(live.models),
        "versions": {"count": len(old), "bytes": sum(each.bytes for each in old)},
        "leftovers": {"folders": len(left), "bytes": sum(each.bytes for each in left)},
        "tables": [
            {
                "table": plan.table, "newest": plan.newest, "pinned_versions": list(plan.pinned),
                "files": len(plan.files), "bytes": plan.bytes, "too_young": plan.kept_files,
            }
            for plan in plans
        ],
    }  # fmt: skip


def renew_vocabulary(workspace: Workspace) -> dict[str, Any]:
    """Begin a new generation of the vocabulary and encode all samples by it; see `compact_vocabulary`."""
    summary = compact_vocabulary(lambda: workspace.spark, workspace.config, workspace.hooks)
    workspace.forget_pins()
    return {
        "generation": workspace.generation(), "dropped": summary.tokens, "rows": summary.rows, "seconds": summary.seconds,
    }  # fmt: skip


def compact_tables(workspace: Workspace) -> dict[str, Any]:
    """Write the small files of small tables together; rows, versions and pins stay as they are."""
    lake = workspace.lake
    found = [{"table": name, "files_less": compact(lake, name)} for name in COMPACTED if lake.exists(name)]
    return {"tables": found}
