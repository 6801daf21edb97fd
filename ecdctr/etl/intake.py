"""The table `intake`: what each file of the logs held when it was last looked through."""

from collections.abc import Iterable
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.types import StructType

from ecdctr.etl.facts import Fact
from ecdctr.etl.ingest import Ingest
from ecdctr.lake.frames import local_frame
from ecdctr.lake.tables import Lake

TABLE = "intake"


def read_intake(lake: Lake) -> dict[str, tuple[Fact, ...]]:
    """The facts of each domain; read from the files that the table's log names, without Spark."""
    facts: dict[str, list[Fact]] = {}
    files = lake.pin(TABLE).files if lake.exists(TABLE) else ()
    tables = [pq.ParquetFile(file.path).read() for file in files]
    for row in pa.concat_tables(tables).to_pylist() if tables else []:
        domain = row.pop("domain")
        facts.setdefault(domain, []).append(Fact(**row | {"nulls": dict(row["nulls"])}))
    return {domain: tuple(found) for domain, found in facts.items()}


def write_intake(lake: Lake, found: Iterable[Ingest]) -> None:
    """Remember what the logs hold."""
    lake.create(TABLE)
    rows = [asdict(fact) | {"domain": log.domain} for log in found for fact in log.facts]
    schema = StructType.fromJson(lake.snapshot(TABLE).schema)
    lake.replace_all(TABLE, local_frame(lake.spark, rows, schema).coalesce(1))
