"""Which embedding tables every rank holds whole, and which are dealt row by row to the ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ecdctr.config.training import TablesConfig, TrainingConfig
from ecdctr.distributed.collective import Collective
from ecdctr.exceptions import ConfigError
from ecdctr.models.base import CTRModel
from ecdctr.training.optimizers import OPTIMIZERS

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
        ConfigError: One rank would hold more than `max_table_bytes`, or `exchange_of` names a table that there is not.
    """
    if not settings.exchange_of.keys() <= tables.keys():
        raise ConfigError(
            f"tables.exchange_of names {', '.join(sorted(settings.exchange_of.keys() - tables.keys()))}, which the model has no "
            "vocabulary of",
            hint=f"its vocabularies are {', '.join(tables)}",
        )
    whole = {name: sum(size.bytes() for size in sizes) for name, sizes in tables.items()}
    part = {name: sum(size.bytes(ranks) for size in sizes) for name, sizes in tables.items()}
    limit = settings.max_table_bytes

    def held(sharded: set[str]) -> int:
        return sum(part[name] if name in sharded else whole[name] for name in tables)

    chosen = {name for name, exchange in settings.exchange_of.items() if exchange == "row_wise"} if ranks > 1 else set()
    others = tables.keys() - settings.exchange_of.keys()
    large = any(whole[name] > settings.shard_above_bytes for name in others)
    # Once one table is dealt, the rounds in which rows are fetched are paid for; dealing the others then saves memory, and
    # has each row updated on one rank instead of all.
    dealt = settings.exchange == "auto" and (large or bool(chosen) or (limit is not None and held(chosen) > limit))
    if ranks > 1 and (settings.exchange == "row_wise" or dealt):
        chosen |= others
    if limit is not None and held(chosen) > limit:
        raise ConfigError(
            f"embedding tables and their optimiser state would take {held(chosen):,} bytes on each of {ranks} ranks with "
            f"tables.exchange {settings.exchange}: max_table_bytes is {limit:,}",
            hint=_way_out(settings, sum(whole.values()), held(set(tables)) if ranks > 1 else None, limit),
        )
    return chosen


def deal_tables(model: CTRModel, settings: TrainingConfig, collective: Collective) -> set[str]:
    """Shard the tables of a new model that the settings want sharded, before they take memory; gives their names."""
    tables, twins = model.tables, model.twin_tables()
    state = OPTIMIZERS[settings.sparse_optimizer].floats(tables.dim)
    sizes = {
        name: [TableSize(rows, tables.dim + state), *(TableSize(twin.rows[name], twin.dim) for twin in twins)]
        for name, rows in tables.rows.items()
    }
    sharded = plan_tables(settings.tables, sizes, collective.size)
    if sharded:
        for each in (tables, *twins):
            each.shard(sharded, collective)
    return sharded


def _way_out(settings: TablesConfig, total: int, sharded: int | None, limit: int) -> str:
    if sharded is not None and sharded <= limit:
        # It could be dealt, so settings keep it whole.
        keeping = ["tables.exchange"] if settings.exchange == "replicated" else []
        keeping += [f"tables.exchange_of.{name}" for name, kind in settings.exchange_of.items() if kind == "replicated"]
        return f"set {' and '.join(keeping)} to row_wise ({sharded:,} bytes on each rank), or raise max_table_bytes"
    mode = "" if settings.exchange != "replicated" else " with tables.exchange row_wise"
    return f"train on {-(-total // limit)} ranks or more{mode}, lower embedding_dim, or raise max_table_bytes"
