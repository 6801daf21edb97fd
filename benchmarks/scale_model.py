"""What a training step costs a rank, by the number of ranks, the ids and the way tables are exchanged."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Exchange = Literal["replicated", "row_wise"]
EXCHANGES: tuple[Exchange, ...] = ("replicated", "row_wise")
FLOAT = 4
NARROW = 2**31


@dataclass(frozen=True)
class Workload:
    """One model on one log.

    Attributes:
        batch: Rows of a step on each rank.
        fields: Ids that a row looks up.
        dim: Numbers in a table row, D.
        state: Numbers of optimiser state per table row.
        network: Parameters of the network.
        ids: Rows of all tables, shared evenly by the fields and drawn evenly.
    """

    batch: int
    fields: int
    dim: int
    state: int
    network: int
    ids: int

    def distinct(self, ranks: int = 1) -> float:
        """Expected distinct table rows among the look-ups of so many ranks."""
        table = self.ids / self.fields
        return -self.fields * table * math.expm1(ranks * self.batch * math.log1p(-1 / table))

    def at(self, ids: int) -> "Workload":
        """The same with another number of ids."""
        return replace(self, ids=ids)


def bytes_per_step(work: Workload, ranks: int, exchange: Exchange) -> dict[str, float]:
    """Bytes that a rank sends in a step, by what they are.

    A ring all-reduce sends 2 (N - 1) / N of its buffer, a ring all-gather N - 1 times a rank's rows, an all-to-all
    (N - 1) / N of them.
    """
    others, rows = (ranks - 1) / ranks, work.distinct()
    sent = {"network": 2 * others * FLOAT * work.network}
    if exchange == "replicated":
        return sent | {"gradients": (ranks - 1) * rows * (FLOAT * work.dim + _number(work.ids))}
    number = _number(-(-work.ids // ranks))
    return sent | {
        "ids": others * rows * number,
        "vectors": others * rows * FLOAT * work.dim,
        "gradients": others * rows * (FLOAT * work.dim + number),
    }


def _number(rows: int) -> int:
    return 4 if rows <= NARROW else 8


def memory(work: Workload, ranks: int, exchange: Exchange) -> float:
    """Bytes of tables and their optimiser state on one rank."""
    return work.ids * (work.dim + work.state) * FLOAT / (1 if exchange == "replicated" else ranks)


def drawn(work: Workload, ranks: int, exchange: Exchange) -> float:
    """Ids whose initial values a rank draws."""
    return work.ids / (1 if exchange == "replicated" else ranks)


def received(work: Workload, ranks: int, exchange: Exchange) -> float:
    """Rows with gradients that come to a rank in a step, its own among them."""
    return work.distinct() * (ranks if exchange == "replicated" else 1)


def updated(work: Workload, ranks: int, exchange: Exchange) -> float:
    """Table rows that a rank updates in a step."""
    return work.distinct(ranks) / (1 if exchange == "replicated" else ranks)


@dataclass(frozen=True)
class Constants:
    """Seconds, fitted to measurements.

    Attributes:
        step: Of forward and backward, whatever the batch.
        compute: Of forward and backward, per row of the batch.
        update: Per table row updated.
        round: Of an exchange, whatever its size.
        merge: Per row received with its gradient.
        fetch_round: Of the two all-to-alls of a look-up, whatever their size.
        fetch: Per distinct row that a look-up asks for.
        init: Of drawing initial values, per id.
    """

    step: float
    compute: float
    update: float
    round: float
    merge: float
    fetch_round: float
    fetch: float
    init: float


def seconds_per_step(constants: Constants, work: Workload, ranks: int, exchange: Exchange) -> Mapping[str, float]:
    """Predicted seconds of a step by phase, on ranks whose links cost nothing beyond what the constants hold.

    Args:
        constants: As fitted.
        work: The workload.
        ranks: N.
        exchange: How tables are exchanged.
    """
    alone = ranks == 1
    return {
        "compute": constants.step + constants.compute * work.batch,
        "look-up": constants.fetch_round + constants.fetch * work.distinct()
        if exchange == "row_wise" and not alone
        else 0.0,
        "exchange": 0.0 if alone else constants.round + constants.merge * received(work, ranks, exchange),
        "update": constants.update * updated(work, ranks, exchange),
    }
