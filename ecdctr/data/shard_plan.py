"""Which rows of which files every step takes, known before training starts and whatever the number of ranks.

Files are dealt to lanes. At step t of T = ceil(N / B) lane l gives its rows [floor(n_l t B / N), floor(n_l (t+1) B / N)),
at the last step all that is left. Rank r of R owns the lanes l with l mod R = r. So all ranks take T steps, no row is
lost or doubled, and the rows of a step over all ranks do not depend on R.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from ecdctr.exceptions import ConfigError, InputError
from ecdctr.features.domains import AD


@dataclass(frozen=True)
class FileRows:
    """One Parquet file, or some row groups of it.

    Attributes:
        path: The file.
        rows: Its rows; with `groups`, the rows of those.
        domain: The one that all its rows are of.
        groups: Row groups, ascending; None: all of them.
        constants: Columns of samples that the file does not have, and their value in every row.
    """

    path: str
    rows: int
    domain: int = AD
    groups: tuple[int, ...] | None = None
    constants: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class LanePlan:
    """Files of every lane, in reading order.

    Attributes:
        lanes: The files of each lane; a lane may be empty.
        seed: Of the order of files and of rows.
        shuffle: Whether rows are shuffled within the reading buffer.
    """

    lanes: tuple[tuple[FileRows, ...], ...]
    seed: int
    shuffle: bool

    @property
    def lane_rows(self) -> tuple[int, ...]:
        """Rows of each lane."""
        return tuple(sum(file.rows for file in files) for files in self.lanes)

    @property
    def rows(self) -> int:
        """Rows of all lanes."""
        return sum(self.lane_rows)

    @property
    def imbalance(self) -> float:
        """By how much the longest lane exceeds the mean, as a share of the mean: ranks wait for its owner that much."""
        return max(self.lane_rows) * len(self.lanes) / self.rows - 1 if self.rows else 0.0

    def steps(self, global_batch: int) -> int:
        """Steps that every rank takes for one pass over all rows.

        Args:
            global_batch: Rows of a step over all ranks, at least one.
        """
        if global_batch < 1:
            raise ConfigError(f"a global batch of {global_batch} rows: expected at least 1", hint="raise batch_size")
        return -(-self.rows // global_batch)

    def rows_of(self, step: int, global_batch: int) -> tuple[tuple[int, int], ...]:
        """For each lane, the half-open range of its rows that a step takes.

        Args:
            step: From 0 to `steps(global_batch) - 1`.
            global_batch: Rows of a step over all ranks; a step has as many up to the rounding of each lane.
        """
        total, last = self.rows, self.steps(global_batch) - 1

        def before(rows: int, at: int) -> int:
            return rows if at > last else rows * at * global_batch // total

        return tuple((before(rows, step), before(rows, step + 1)) for rows in self.lane_rows)


def plan_lanes(files: Sequence[FileRows], lanes: int, seed: int, shuffle: bool) -> LanePlan:
    """Deal files to lanes of near-equal rows.

    The largest file goes first, always to the lane with the fewest rows; equal ones in the order given. So the plan
    depends on the rows and the order of the files, never on their names, which differ between two writes of one table.

    Args:
        files: Exact files of one pinned table version.
        lanes: How many lanes; the ranks share them, so it is at least their number.
        seed: Of the order of a lane's files, and of its rows when it is read.
        shuffle: Shuffle a lane's files; otherwise they keep the order given.

    Raises:
        ConfigError: No lane.
        InputError: A file twice, or one with a negative number of rows.
    """
    if lanes < 1:
        raise ConfigError(f"{lanes} lanes: expected at least 1", hint="raise training.lanes")
    seen: set[tuple[str, tuple[int, ...] | None]] = set()
    for file in files:
        if (file.path, file.groups) in seen:
            raise InputError(f"{file.path} is listed twice: its rows would be trained on twice")
        if file.rows < 0:
            raise InputError(f"{file.path} has {file.rows} rows: expected 0 or more")
        seen.add((file.path, file.groups))
    dealt: list[list[int]] = [[] for _ in range(lanes)]
    load = [0] * lanes
    for place in sorted(range(len(files)), key=lambda at: -files[at].rows):
        lightest = load.index(min(load))
        dealt[lightest].append(place)
        load[lightest] += files[place].rows
    for lane, places in enumerate(dealt):
        places.sort()
        if shuffle:
            Random(f"files {seed} {lane}").shuffle(places)  # noqa: S311 - an order, not a secret
    return LanePlan(tuple(_whole_files([files[place] for place in places]) for places in dealt), seed, shuffle)


def _whole_files(parts: Sequence[FileRows]) -> tuple[FileRows, ...]:
    """Parts of one file joined where its first one stands, so that it is opened once."""
    joined: dict[str, FileRows] = {}
    for part in parts:
        found = joined.get(part.path)
        if found is None or found.groups is None or part.groups is None:
            joined[part.path] = part
        else:
            groups = tuple(sorted({*found.groups, *part.groups}))
            joined[part.path] = replace(found, rows=found.rows + part.rows, groups=groups)
    return tuple(joined.values())


def join_plans(plans: Sequence[LanePlan]) -> LanePlan:
    """One plan over the lanes of several: every step takes of each the same share.

    So a step of joint training has rows of both domains as their logs have, and none runs out before the other.

    Args:
        plans: Plans of one seed and one way to shuffle, at least one.
    """
    return LanePlan(tuple(lane for plan in plans for lane in plan.lanes), plans[0].seed, plans[0].shuffle)


def owned_lanes(lanes: int, rank: int, size: int) -> range:
    """Lanes of one rank: every `size`-th, from `rank` on."""
    return range(rank, lanes, size)
