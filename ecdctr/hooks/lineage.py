"""Lineage as JSON lines of OpenLineage run events (openlineage.io, spec 2-0-2)."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

from ecdctr import __version__
from ecdctr.config.settings import Settings
from ecdctr.hooks.protocol import Event, FailureEvent, Hook, PublishEvent, TableEvent

PRODUCER = f"https://github.com/ecdctr/ecdctr/tree/{__version__}"
SPEC = "https://openlineage.io/spec"


class OpenLineage(Settings, Hook):
    """Appends one run event per table commit, published version and failure to a file."""

    path: str = "{warehouse}/_lineage/openlineage.ndjson"
    """The file; `{warehouse}` stands for the warehouse's folder."""
    namespace: str = "ecdctr"
    """Namespace of the jobs."""

    def after_table_commit(self, event: TableEvent) -> None:
        """A run that wrote a version of a table."""
        facets: dict[str, Any] = {
            "version": _facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=str(event.version))
        }
        statistics = {"outputStatistics": _facet("OutputStatisticsOutputDatasetFacet", "1-0-2", rowCount=event.rows)}
        output = self._dataset(event, event.table) | {"facets": facets, "outputFacets": statistics}
        inputs = [self._dataset(event, name) for name in event.inputs]
        self._append(event, event.job, "COMPLETE", inputs, [output])

    def after_publish(self, event: PublishEvent) -> None:
        """A run that read versions of tables and made a model."""
        inputs = [
            self._dataset(event, table)
            | {"facets": {"version": _facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=str(version))}}
            for table, version in event.tables.items()
        ]
        parents = [self._dataset(event, f"models/{parent}") for parent in event.parents]
        self._append(
            event,
            f"train_{event.level}",
            "COMPLETE",
            inputs + parents,
            [self._dataset(event, f"models/{event.version}")],
        )

    def on_failure(self, event: FailureEvent) -> None:
        """A run that failed."""
        error = _facet("ErrorMessageRunFacet", "1-0-1", message=event.message, programmingLanguage="Python")
        self._append(event, "command", "FAIL", [], [], {"errorMessage": error})

    def _dataset(self, event: Event, name: str) -> dict[str, Any]:
        return {"namespace": "file", "name": str(Path(event.warehouse).absolute() / name)}

    def _append(
        self,
        event: Event,
        job: str,
        kind: str,
        inputs: list[dict[str, Any]],
        outputs: list[dict[str, Any]],
        run_facets: dict[str, Any] | None = None,
    ) -> None:
        line = {
            "eventType": kind,
            "eventTime": dt.datetime.now(dt.UTC).isoformat(),
            "producer": PRODUCER,
            "schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": {"runId": event.run_id, "facets": run_facets or {}},
            "job": {"namespace": self.namespace, "name": f"{event.name}.{job}"},
            "inputs": inputs,
            "outputs": outputs,
        }
        path = Path(self.path.replace("{warehouse}", event.warehouse))
        path.parent.mkdir(parents=True, exist_ok=True)
        # One write to a file opened for appending: lines of two jobs do not mix.
        with path.open("ab", buffering=0) as file:
            file.write((json.dumps(line, sort_keys=True) + "\n").encode())


def _facet(name: str, version: str, **values: Any) -> dict[str, Any]:
    return {
        "_producer": PRODUCER,
        "_schemaURL": f"{SPEC}/facets/{version}/{name}.json#/$defs/{name}",
        **values,
    }
