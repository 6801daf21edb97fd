"""Lineage as JSON lines of OpenLineage run events (openlineage.io, spec 2-0-2)."""

import datetime as dt
import json
import uuid
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from ecdctr import __version__
from ecdctr.hooks.protocol import Event, FailureEvent, Hook, PublishEvent, TableEvent
from ecdctr.settings import Settings

PRODUCER = f"https://github.com/ecdctr/ecdctr/tree/{__version__}"
SPEC = "https://openlineage.io/spec"


class OpenLineage(Settings, Hook):
    """Appends the start and the end of each step that wrote a table, made a version or failed.

    Each step is a run of its own, whose parent is the run of the command: a run belongs to one job and ends once. A step
    starts where the one before it ended, the first one when the command has begun.
    """

    path: str = "{warehouse}/_lineage/openlineage.ndjson"
    """The file; `{warehouse}` stands for the warehouse's folder."""
    namespace: str = "ecdctr"
    """Namespace of the jobs."""
    _since: str = PrivateAttr(default_factory=lambda: _now())

    def after_table_commit(self, event: TableEvent) -> None:
        """A run that wrote a version of a table."""
        facets: dict[str, Any] = {
            "version": _facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=str(event.version))
        }
        statistics = {"outputStatistics": _facet("OutputStatisticsOutputDatasetFacet", "1-0-2", rowCount=event.rows)}
        output = self._dataset(event, event.table) | {"facets": facets, "outputFacets": statistics}
        inputs = [self._dataset(event, name) for name in event.inputs]
        self._append(event, f"{event.job}.{event.table}", str(event.version), inputs, [output])

    def after_publish(self, event: PublishEvent) -> None:
        """A run that read versions of tables and made a model."""
        inputs = [
            self._dataset(event, table)
            | {"facets": {"version": _facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=str(version))}}
            for table, version in event.tables.items()
        ]
        parents = [self._dataset(event, f"models/{parent}") for parent in event.parents]
        outputs = [self._dataset(event, f"models/{event.version}")]
        self._append(event, f"train_{event.level}", event.version, inputs + parents, outputs)

    def on_failure(self, event: FailureEvent) -> None:
        """A run that failed."""
        error = _facet("ErrorMessageRunFacet", "1-0-1", message=event.message, programmingLanguage="Python")
        self._write(event, "command", "FAIL", {"runId": event.run_id, "facets": {"errorMessage": error}}, [], [])

    def _dataset(self, event: Event, name: str) -> dict[str, Any]:
        return {"namespace": "file", "name": str(Path(event.warehouse).absolute() / name)}

    def _append(
        self, event: Event, job: str, what: str, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]
    ) -> None:
        """One whole run of a job, told of by the same line for the same thing made by the same command."""
        command = {"namespace": self.namespace, "name": f"{event.name}.command"}
        parent = _facet("ParentRunFacet", "1-0-1", run={"runId": event.run_id}, job=command)
        run = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{event.run_id}/{job}/{what}"))
        self._write(event, job, "COMPLETE", {"runId": run, "facets": {"parent": parent}}, inputs, outputs)

    def _write(
        self,
        event: Event,
        job: str,
        kind: str,
        run: dict[str, Any],
        inputs: list[dict[str, Any]],
        outputs: list[dict[str, Any]],
    ) -> None:
        common = {
            "producer": PRODUCER,
            "schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": run,
            "job": {"namespace": self.namespace, "name": f"{event.name}.{job}"},
        }
        now = _now()
        begun = {"runId": run["runId"], "facets": {k: v for k, v in run["facets"].items() if k == "parent"}}
        start = common | {"eventType": "START", "eventTime": self._since, "run": begun, "inputs": [], "outputs": []}
        end = common | {"eventType": kind, "eventTime": now, "inputs": inputs, "outputs": outputs}
        self._since = now
        path = Path(self.path.replace("{warehouse}", event.warehouse))
        path.parent.mkdir(parents=True, exist_ok=True)
        # One write to a file opened for appending: lines of two jobs do not mix.
        with path.open("ab", buffering=0) as file:
            file.write("".join(json.dumps(line, sort_keys=True) + "\n" for line in (start, end)).encode())


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()


def _facet(name: str, version: str, **values: Any) -> dict[str, Any]:
    return {
        "_producer": PRODUCER,
        "_schemaURL": f"{SPEC}/facets/{version}/{name}.json#/$defs/{name}",
        **values,
    }
