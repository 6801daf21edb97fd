"""A file for schedulers that wait for one."""

import json
import os
from pathlib import Path

from ecdctr.hooks.protocol import Hook, PublishEvent, TableEvent
from ecdctr.settings import Settings


class SuccessMarker(Settings, Hook):
    """Writes `FOLDER/ad_samples-DAY.success` when all days before DAY are prepared, `FOLDER/VERSION.success` for a version.

    The file appears whole or not at all and holds the event as JSON.
    """

    folder: str = "{warehouse}/_markers"
    """Where the files go; `{warehouse}` stands for the warehouse's folder."""
    table: str = "ad_samples"
    """The table whose commit marks a day; the one that is written last."""

    def after_table_commit(self, event: TableEvent) -> None:
        """Mark the last day written."""
        if event.table == self.table and event.until is not None:
            self._write(f"{event.table}-{event.until}.success", event)

    def after_publish(self, event: PublishEvent) -> None:
        """Mark a version."""
        self._write(f"{event.version}.success", event)

    def _write(self, name: str, event: TableEvent | PublishEvent) -> None:
        folder = Path(self.folder.replace("{warehouse}", event.warehouse))
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{name}.{os.getpid()}"
        with draft.open("w") as file:
            json.dump(event.tree(), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / name)
