"""The network's gradients travel while the backward pass goes on: the same bits, begun before the tables' part is done."""

import pytest
import torch
from test_trainer import batches, new_model

from ecdctr.artifacts.parameters import parameter_digest
from ecdctr.config.training import TrainingConfig
from ecdctr.distributed.inline import InlineCollective, run_inline
from ecdctr.training.trainer import Trainer

pytestmark = pytest.mark.unit


class Background(InlineCollective):
    """Ranks with a background thread, which here sums when it is waited for."""

    overlaps = True

    def __init__(self, inner: InlineCollective, begun) -> None:
        super().__init__(inner.rank, inner.size, inner._meeting)
        self.begun = begun

    def begin_all_reduce_(self, tensor):
        self.begun()
        kept = tensor.clone()

        def wait():
            assert torch.equal(tensor, kept), "touched while it travelled"
            return self.all_reduce_(tensor)

        return wait


def shares(collective, *, uneven):
    if not uneven:
        return [
            batch.slice(collective.rank * len(batch) // 2, (collective.rank + 1) * len(batch) // 2)
            for batch in batches()
        ]
    return [batch if collective.rank == 0 else batch.slice(0, 0) for batch in batches()]


@pytest.mark.parametrize("uneven", [False, True], ids=["halves", "one_rank_without_rows"])
@pytest.mark.parametrize("sharded", [(), ("item_id",), ("user_id", "item_id")])
def test_the_bits_are_those_of_a_reduction_after_the_backward_pass(sharded, uneven):
    def trained(*, early):
        models = [new_model() for _ in range(2)]

        def walk(collective):
            model = models[collective.rank]
            if early:
                collective = Background(collective, lambda: None)
            model.attach(collective)
            if sharded:
                model.tables.shard(sharded, collective)
            trainer, losses = Trainer(model, collective, TrainingConfig(), seed=4), []
            trainer.fit(shares(collective, uneven=uneven), 8, on_step=lambda progress: losses.append(progress.loss))
            return losses, parameter_digest(
                model.network_state()
                | model.tables.tables()
                | trainer.optimizer_state()
                | trainer.shard_optimizer_state()
            )

        return run_inline(2, walk)

    assert trained(early=True) == trained(early=False)


@pytest.mark.parametrize("parts", [1, 3])
def test_it_begins_once_in_a_step_before_the_rows_of_tables_have_their_gradients(parts):
    models = [new_model(), new_model()]

    def walk(collective):
        model, learned, seen = models[collective.rank], [], []
        collective = Background(collective, lambda: seen.append(len(learned)))
        model.attach(collective)
        touched = model.tables.touched_gradients
        model.tables.touched_gradients = lambda: learned.append(True) or touched()
        trainer = Trainer(model, collective, TrainingConfig(micro_batches=parts), seed=4)
        trainer.fit(shares(collective, uneven=False)[:4], 4)
        return seen

    # In each step after the rows of all parts but the last one.
    assert run_inline(2, walk) == [[parts - 1 + step * parts for step in range(4)]] * 2
