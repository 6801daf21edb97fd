"""What the last preparations left beside their commits; read from the tables' logs, without Spark."""

import datetime as dt

from ecdctr.etl.preparation import Note
from ecdctr.exceptions import NotReadyError
from ecdctr.lake.tables import Lake

LAST = "ad_samples"
"""The table that is written last: what its note says holds for all."""


def note_of(lake: Lake, table: str) -> Note | None:
    """What the last preparation that wrote a table left there."""
    text = lake.note(table)
    return None if text is None else Note.from_json(text)


def generation_of(lake: Lake, table: str = "vocabulary") -> int:
    """Which dealing of ids a table goes by, counted from 1; each `compact_vocabulary` begins another.

    Raises:
        NotReadyError: The vocabulary was dealt anew and the table is not encoded anew yet.
    """
    note = note_of(lake, "vocabulary")
    generation = 1 if note is None else note.generation
    own = note if table == "vocabulary" else note_of(lake, table)
    if own is not None and own.generation != generation:
        raise NotReadyError(
            f"{table} has ids of vocabulary generation {own.generation}; the vocabulary is of generation {generation}",
            hint="run ecdctr prepare: it goes on with the compaction that was broken off",
        )
    return generation


def prepared_until(lake: Lake, table: str = LAST) -> dt.date | None:
    """The day after the last one that a table was prepared for; by default of the table that is written last."""
    note = note_of(lake, table)
    return None if note is None else note.until
