"""KuaiRand-Pure's sequences of earlier exposures and its log as one natural log: `python -m ecdctr.datasets.kuairand_history IN OUT`.

`user_sequences_to_20220424.parquet` holds what each user was shown in the days before the log, in order but without times, and
which of it was watched long. As rows of a log it is the long natural history that the long-term level is made for.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ecdctr.artifacts.files import new_folder
from ecdctr.exceptions import InputError

SEQUENCES = "user_sequences_to_20220424.parquet"
EVENTS = "events.parquet"
DAY_MS = 86_400_000
START_MS = 1_649_433_600_000
"""2022-04-09 00:00 in Beijing: sixteen days before the log."""
END_MS = START_MS + 16 * DAY_MS
COLUMNS = pa.schema(
    [
        ("user_id", pa.int64()), ("video_id", pa.int64()), ("time_ms", pa.int64()), ("is_click", pa.int64()),
        ("tab", pa.int64()), ("duration_ms", pa.int64()), ("earlier", pa.bool_()),
    ]
)  # fmt: skip


def exposures(sequences: pa.Table) -> pa.Table:
    """One row per earlier exposure.

    Times are made up: a user's exposures lie evenly between the first day and the known time of the last one, in their
    order. The label is whether the video was watched long: the file does not tell clicks. A video that was shown to a user
    several times has one label.

    Args:
        sequences: user_id, last_time_ms, watch_seq (what was shown, oldest first), long_watch_seq.

    Returns:
        Columns as `COLUMNS`; tab and duration are unknown.

    Raises:
        InputError: A last exposure outside the sixteen days.
    """
    last = sequences["last_time_ms"].to_numpy()
    wrong = (last < START_MS) | (last >= END_MS)
    if wrong.any():
        raise InputError(
            f"{int(wrong.sum())} users' last exposure lies outside [{START_MS}, {END_MS}) ms, first {last[wrong][0]}",
            hint="this reader is for the sequences up to 2022-04-24",
        )
    shown = sequences["watch_seq"].combine_chunks()
    lengths = np.diff(shown.offsets.to_numpy())
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    # The last one, number n of n, falls on the known time.
    share = (place + 1) / lengths[row]
    video = shown.flatten().to_numpy()
    long_watched = [set(videos) for videos in sequences["long_watch_seq"].to_pylist()]
    label = np.fromiter(
        (v in long_watched[r] for r, v in zip(row.tolist(), video.tolist(), strict=True)), bool, len(row)
    )
    unknown = pa.nulls(len(row), pa.int64())
    return pa.table(
        {
            "user_id": sequences["user_id"].to_numpy()[row],
            "video_id": video,
            "time_ms": (START_MS + share * (last[row] - START_MS)).astype(np.int64),
            "is_click": label.astype(np.int64),
            "tab": unknown,
            "duration_ms": unknown,
            "earlier": np.ones(len(row), bool),
        },
        schema=COLUMNS,
    )


def events(log: pa.Table) -> pa.Table:
    """The log's own rows with the same columns."""
    kept = log.select([name for name in COLUMNS.names if name != "earlier"])
    return kept.append_column("earlier", pa.array(np.zeros(log.num_rows, bool))).cast(COLUMNS)


def write_log(folder: Path, target: Path) -> int:
    """Write earlier exposures and the log together as `target/impressions.parquet`, replacing an earlier one.

    Args:
        folder: Has `SEQUENCES` and `EVENTS`.
        target: A folder.

    Returns:
        Rows written.

    Raises:
        InputError: A file is missing.
    """
    missing = [name for name in (SEQUENCES, EVENTS) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} has no {', '.join(missing)}", hint="see docs/datasets.md on kuairand_long.yml")
    table = pa.concat_tables([exposures(pq.read_table(folder / SEQUENCES)), events(pq.read_table(folder / EVENTS))])
    with new_folder(target) as draft:
        pq.write_table(table, draft / "impressions.parquet")
    return int(table.num_rows)


def main(arguments: Sequence[str]) -> int:
    """Command line: the folder of the two files, and the one to write to."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m ecdctr.datasets.kuairand_history FOLDER OUT\n")
        return 2
    try:
        rows = write_log(*(Path(argument) for argument in arguments))
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{rows:,} rows in {arguments[1]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
