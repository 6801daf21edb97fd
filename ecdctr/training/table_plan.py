"""Which embedding tables every rank holds whole, and which are dealt row by row to the ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ecdctr.config.training import TablesConfig
from ecdctr.exceptions import ConfigError

FLOAT = 4


@dataclass(frozen=True)
class TableSize:
    """One vocabulary's table.

    Attributes:
        rows: Its rows.
        floats: Numbers per row: the vector, and the optimiser's state where it has one.
    """

    rows: int
    floats: int

    def bytes(self, ranks: int = 1) -> int:
        """Bytes on a rank that holds a part of the rows as large as that of any other of so many ranks."""
        return -(-self.rows // ranks) * self.floats * FLOAT


def plan_tables(settings: TablesConfig, tables: Mapping[str, Sequence[TableSize]], ranks: int) -> set[str]:
    """Names of the tables to shard.

    Args:
        settings: Of the level.
        tables: Each vocabulary's table, and its frozen twin's where there is one: they are dealt alike.
        ranks: How many ranks there are; of one alone nothing is sharded.

    Raises:
        ConfigError: One rank would hold more than `max_table_bytes`.
    """
    whole = {name: sum(size.bytes() for size in sizes) for name, sizes in tables.items()}
    part = {name: sum(size.bytes(ranks) for size in sizes) for name, sizes in tables.items()}
    limit = settings.max_table_bytes

    def held(sharded: set[str]) -> int:
        return sum(part[name] if name in sharded else whole[name] for name in tables)

    chosen: set[str] = set()
    if ranks > 1 and settings.exchange == "row_wise":
        chosen = set(tables)
    elif ranks > 1 and settings.exchange == "auto":
        chosen = {name for name, size in whole.items() if size > settings.shard_above_bytes}
        for name in sorted(tables, key=lambda name: (-whole[name], name)):
            if limit is not None and held(chosen) > limit:
                chosen.add(name)
    if limit is not None and held(chosen) > limit:
        raise ConfigError(
            f"embedding tables and their optimiser state would take {held(chosen):,} bytes on each of {ranks} ranks with "
            f"tables.exchange {settings.exchange}: max_table_bytes is {limit:,}",
            hint=_way_out(settings, sum(whole.values()), held(set(tables)) if ranks > 1 else None, limit),
        )
    return chosen


def _way_out(settings: TablesConfig, total: int, sharded: int | None, limit: int) -> str:
    if settings.exchange == "replicated" and sharded is not None and sharded <= limit:
        return f"set tables.exchange to row_wise ({sharded:,} bytes on each rank) or auto, or raise max_table_bytes"
    mode = "" if settings.exchange != "replicated" else " with tables.exchange row_wise"
    return f"train on {-(-total // limit)} ranks or more{mode}, lower embedding_dim, or raise max_table_bytes"
