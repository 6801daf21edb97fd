"""The cost model of docs/scale.md against what ranks really send, hold and merge."""

import pytest
import torch

from benchmarks.scale_model import Constants, Workload, bytes_per_step, memory, seconds_per_step
from benchmarks.scale_page import fit, line, page
from ecdctr.config.training import TrainingConfig
from ecdctr.data.batch import Batch
from ecdctr.distributed.inline import run_inline
from ecdctr.features import FeatureSet
from ecdctr.models.registry import build
from ecdctr.training.trainer import Trainer

pytestmark = pytest.mark.unit

FEATURES = FeatureSet(
    ("a", "b"), (), {}, {"a": "a", "b": "b"}, {}, {"a": 1, "b": 1}, {}, user_field="a", item_field="b"
)
ROWS, BATCH = 20_000, 4000


class Counting:
    """A collective that adds up what it sends to others."""

    def __init__(self, inner) -> None:
        self.inner, self.sent = inner, 0.0
        self.rank, self.size = inner.rank, inner.size

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def all_reduce_(self, tensor, op="sum"):
        if tensor.numel() > 1:
            self.sent += 2 * (self.size - 1) / self.size * tensor.nbytes
        return self.inner.all_reduce_(tensor, op)

    def all_reduce_and_gather_(self, tensor, rows):
        self.sent += 2 * (self.size - 1) / self.size * tensor.nbytes + (self.size - 1) * rows.nbytes
        return self.inner.all_reduce_and_gather_(tensor, rows)

    def all_to_all(self, tensor, splits):
        self.sent += (len(tensor) - splits[self.rank]) * tensor[:1].nbytes
        return self.inner.all_to_all(tensor, splits)

    def begin_all_to_all(self, tensor, splits):
        done = self.all_to_all(tensor, splits)
        return lambda: done


@pytest.mark.parametrize("exchange", ["replicated", "row_wise"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_bytes_and_memory_are_those_of_a_real_step(exchange, ranks):
    models = [
        build("deepfm", features=FEATURES, rows={"a": ROWS, "b": ROWS}, seed=1, embedding_dim=8, hidden_units=[4], batch_norm=False)
        for _ in range(ranks)
    ]  # fmt: skip

    def step(inner):
        collective, model = Counting(inner), models[inner.rank]
        if exchange == "row_wise":
            model.tables.shard(["a", "b"], collective)
        trainer = Trainer(model, collective, TrainingConfig(), seed=1)
        # Initial values are made, and dealt, once.
        assert len(model.tables.weight)
        collective.sent = 0
        generator = torch.Generator().manual_seed(inner.rank)
        ids = torch.randint(1, ROWS, (BATCH, 2), generator=generator)
        zeros = torch.zeros(BATCH)
        trainer.fit([Batch(ids, torch.zeros(BATCH, 0), {}, zeros, zeros + 1, zeros.long())], 1)
        held = model.tables.weight.nbytes + trainer.sparse.accumulator.nbytes
        return collective.sent, held, sum(p.numel() for p in model.parameters())

    found = run_inline(ranks, step)
    work = Workload(BATCH, 2, 9, 1, found[0][2], 2 * ROWS)
    sent = sum(one for one, _, _ in found) / ranks
    assert sent == pytest.approx(sum(bytes_per_step(work, ranks, exchange).values()), rel=0.03)
    assert found[0][1] == pytest.approx(memory(work, ranks, exchange), rel=0.01)


def test_the_fit_gives_back_the_constants_of_made_up_runs():
    true = Constants(5e-3, 2e-6, 3e-7, 1e-3, 4e-8, 2e-3, 5e-8, 1e-8)
    runs = []
    for ids, batch in ((100_000, 512), (1_000_000, 4096)):
        for ranks in (1, 2, 4):
            for exchange in ("replicated", "row_wise"):
                work = Workload(batch, 8, 17, 1, 1000, ids)
                seconds = seconds_per_step(true, work, ranks, exchange)
                phases = {
                    "input": 0.0, "lookup": seconds["look-up"], "forward": seconds["compute"], "backward": 0.0,
                    "exchange": seconds["exchange"], "update": seconds["update"],
                }  # fmt: skip
                runs.append(
                    {
                        "ranks": ranks, "exchange": exchange, "work": vars(work), "phases": phases, "table_bytes": 1.0,
                        "peak_rss_bytes": 1.0, "samples_per_second": None,
                    }
                )  # fmt: skip
    found = {
        "machine": {"cores": 4, "load": [0.5, 1.5]}, "repeat": 1, "runs": runs, "init_seconds_per_id": 1e-8, "startup": {"1": {"a": 1.0}},
        "all_reduce_microseconds": {"1": 2.0}, "read": {"rows_per_second": 1.0, "bytes_per_row": 3.0},
    }  # fmt: skip
    assert vars(fit(found, 4)) == pytest.approx(vars(true), rel=1e-6)
    text = page(found, 25)
    assert text.count("| 1.00 |") == len(runs)
    assert "| 1e+10 | 512 | row_wise |" in text
    assert line([], []) == (0.0, 0.0)
