"""Two hooks as a company would write them: a catalogue of table versions, and a guard against days that are too small.

In a configuration, once the package is installed:

    hooks:
      - {name: catalogue, options: {path: "{warehouse}/_catalogue.jsonl"}}
      - {name: row_guard, options: {natural: 100000, ad: 5000}}
"""

import json
from pathlib import Path

from ecdctr.hooks import DayEvent, FailureEvent, Hook, PublishEvent, TableEvent


class Catalogue(Hook):
    """One JSON line for each table version and each model that others may read from now on.

    A catalogue that cannot be written is no reason to hold up a day's training: failures are reported, the job goes on.

    Args:
        path: The file; it is appended to.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def after_table_commit(self, event: TableEvent) -> None:
        """A table has a new version."""
        self._add({"table": event.table, "version": event.version, "rows": event.rows, "until": str(event.until)})

    def after_publish(self, event: PublishEvent) -> None:
        """A model stands in the ledger."""
        self._add({"model": event.version, "made_from": list(event.parents), "tables": dict(event.tables)})

    def _add(self, line: dict[str, object]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class RowGuard(Hook):
    """Stops a preparation before it writes, where a day has fewer rows than the business ever has.

    Args:
        natural: Rows that a day of natural content must have.
        ad: Rows that a day of ads must have.
    """

    fails_step = True
    """A guard whose failure is only reported would guard nothing; `on_error: report` in a configuration says otherwise."""

    def __init__(self, natural: int = 0, ad: int = 0) -> None:
        self.least = {"natural": natural, "ad": ad}

    def before_day(self, event: DayEvent) -> None:
        """A day is about to be prepared.

        Raises:
            ValueError: It has too few rows.
        """
        short = [
            f"{domain} {event.rows.get(domain, 0):,} of {rows:,}"
            for domain, rows in self.least.items()
            if event.rows.get(domain, 0) < rows
        ]
        if short:
            raise ValueError(f"{event.day} has too few rows: {', '.join(short)}")

    def on_failure(self, event: FailureEvent) -> None:
        """A command ended with an error; here one would page somebody."""
        print(f"{event.name}: {event.error}: {event.message}")
