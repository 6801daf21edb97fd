"""Delta tables written by hand, with pyarrow and JSON: for tests of what reads them without Spark."""

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write_table(
    root: Path, name: str, fields: dict[str, str], commits: Sequence[Sequence[list[Any]]], partition: str | None = None
) -> Path:
    """Write a table, one commit for each sequence of rows; values of a row are in the order of `fields`."""
    log = root / name / "_delta_log"
    log.mkdir(parents=True)
    described = [
        {"name": field, "type": kind, "nullable": True, "metadata": {"comment": f"what {field} is"}}
        for field, kind in fields.items()
    ]
    metadata = {
        "schemaString": json.dumps({"type": "struct", "fields": described}),
        "partitionColumns": [partition] if partition else [],
        "configuration": {},
    }
    first = [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 3}}, {"metaData": metadata}]
    for version, rows in enumerate(commits):
        stamp = int(dt.datetime(2024, 4, 1 + version, tzinfo=dt.UTC).timestamp() * 1000)
        actions = [{"commitInfo": {"timestamp": stamp, "operation": "WRITE"}}, *(first if version == 0 else [])]
        at = list(fields).index(partition) if partition else None
        for value in dict.fromkeys(row[at] for row in rows) if at is not None else [None]:
            of_file = [row for row in rows if at is None or row[at] == value]
            columns = dict(zip(fields, map(list, zip(*of_file, strict=True)), strict=True))
            columns.pop(partition or "", None)
            file = f"part-{version}-{value}.parquet"
            pq.write_table(pa.table(columns), root / name / file)
            values = {partition: str(value)} if partition else {}
            stats = json.dumps({"numRecords": len(of_file)})
            actions.append({"add": {"path": file, "size": 1, "partitionValues": values, "stats": stats}})
        (log / f"{version:020d}.json").write_text("\n".join(map(json.dumps, actions)))
    return root / name
