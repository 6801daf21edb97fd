"""The warehouse as it stands when a job first looks at it, whatever is written meanwhile."""

from ecdctr.lake.delta_log import Snapshot
from ecdctr.lake.leases import Lease
from ecdctr.lake.tables import Lake


class PinnedLake(Lake):
    """Reads each table at one version, which clean-up leaves in place while the job runs.

    Args:
        lake: The warehouse's tables.
        lease: Of the job.
    """

    def __init__(self, lake: Lake, lease: Lease) -> None:
        super().__init__(lambda: lake.spark, lake.root)
        self._lease = lease
        self._versions: dict[str, int] = {}

    def snapshot(self, name: str, version: int | None = None) -> Snapshot:
        """A version as its log describes it; by default the pinned one. Raises as `read_snapshot`."""
        found = super().snapshot(name, self._versions.get(name) if version is None else version)
        if version is None and name not in self._versions:
            self._versions[name] = found.version
            self._lease.pin(name, found.version)
        return found
