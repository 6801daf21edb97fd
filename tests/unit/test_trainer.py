"""The loop: one rank and two ranks take the same steps; a resumed run is the unbroken one, bit for bit."""

import time

import pytest
import torch

from ecdctr.artifacts.parameters import parameter_digest
from ecdctr.config.training import TrainingConfig
from ecdctr.data.batch import Batch
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.single import SingleProcess
from ecdctr.exceptions import TemporaryError, TrainingError
from ecdctr.features import FeatureSet
from ecdctr.models.registry import build
from ecdctr.training.trainer import PHASES, Trainer

pytestmark = pytest.mark.unit

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id"),
    number_fields=("price",),
    sequence_fields={"clicked": 4},
    vocabulary_of={"user_id": "user_id", "item_id": "item_id", "clicked": "item_id"},
    fixed_rows={},
    oov_buckets={"user_id": 1, "item_id": 1},
    attention={"clicked": "item_id"},
)
ROWS = {"user_id": 40, "item_id": 25}
STEPS = 8


def batches(seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for step in range(STEPS):
        rows = 1 if step == STEPS - 1 else 32
        ids = torch.stack([torch.randint(3, n, (rows,), generator=generator) for n in ROWS.values()], 1)
        made.append(
            Batch(
                ids=ids,
                numbers=torch.randn(rows, 1, generator=generator),
                sequences={"clicked": torch.randint(0, 25, (rows, 4), generator=generator)},
                label=((ids[:, 1] % 3) == 0).float(),
                weight=torch.ones(rows),
                day=torch.zeros(rows, dtype=torch.int64),
            )
        )
    return made


def new_model(**settings):
    return build("dcnv2", features=FEATURES, rows=ROWS, seed=4, hidden_units=[16, 8], **settings)


def trainer(collective, model=None, **settings) -> Trainer:
    model = model or new_model(**settings)
    model.attach(collective)
    return Trainer(model, collective, TrainingConfig(checkpoint_steps=3, dense_learning_rate=1e-2), seed=4)


def fit(collective, parts: list[Batch], model=None, **settings):
    made = trainer(collective, model, **settings)
    losses: list[float] = []
    made.fit(parts, len(parts), on_step=lambda progress: losses.append(progress.loss))
    digest = parameter_digest(made.model.network_state() | made.model.tables.tables() | made.optimizer_state())
    return losses, digest, made.model


def test_two_ranks_take_the_steps_of_one():
    alone, _, model = fit(SingleProcess(), batches())

    # Built here: torch's global generator, which seeds a model, is shared by the threads that play the ranks.
    models = [new_model(), new_model()]

    def share(collective):
        # Uneven on purpose: rank 0 has 5 rows of each batch, and all of the last one; rank 1 none of it.
        cut = [batch.slice(0, 5) if collective.rank == 0 else batch.slice(5, len(batch)) for batch in batches()]
        return fit(collective, cut, models[collective.rank])

    (left, left_digest, twin), (right, right_digest, _) = run_inline(2, share)
    assert left == right
    assert left_digest == right_digest
    torch.testing.assert_close(torch.tensor(left), torch.tensor(alone), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(twin.tables.weight, model.tables.weight, rtol=1e-3, atol=1e-5)


def test_the_same_seed_gives_the_same_bits():
    assert fit(SingleProcess(), batches(), dropout=0.3)[1] == fit(SingleProcess(), batches(), dropout=0.3)[1]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_resume_equals_the_unbroken_run_bit_for_bit(dropout):
    _, unbroken, _ = fit(SingleProcess(), batches(), dropout=dropout)
    first, saved = trainer(SingleProcess(), dropout=dropout), {}

    def save(progress):
        tensors, record = first.state()
        saved["at"] = (progress.step, {name: tensor.clone() for name, tensor in tensors.items()}, record)

    asked = iter([False, False, False, False, True])
    with pytest.raises(TemporaryError, match="stopped at step 5 of 8"):
        first.fit(batches(), STEPS, stop_requested=lambda: next(asked), save=save)
    second = trainer(SingleProcess(), dropout=dropout)
    second.restore(*saved["at"])
    progress = second.fit(batches()[second.progress.step :], STEPS)
    assert progress.step == STEPS
    tensors = second.model.network_state() | second.model.tables.tables() | second.optimizer_state()
    assert parameter_digest(tensors) == unbroken


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_wild_value_on_one_rank_stops_all_in_the_same_step(bad):
    def share(collective):
        cut = [batch.slice(collective.rank, collective.rank + 1) for batch in batches()[:3]]
        if collective.rank == 1:
            cut[1].numbers[:] = bad
        made = trainer(collective)
        with pytest.raises(TrainingError, match="the loss of step 2"):
            made.fit(cut, 3)
        return made.progress.step

    assert run_inline(2, share) == [1, 1]


def test_a_stop_asked_of_one_rank_stops_all():
    def share(collective):
        cut = [batch.slice(collective.rank, collective.rank + 4) for batch in batches()[:-1]]
        made = trainer(collective)
        with pytest.raises(TemporaryError):
            made.fit(cut, 7, stop_requested=lambda: collective.rank == 1 and made.progress.step == 2)
        return made.progress.step

    assert run_inline(2, share) == [3, 3]


def test_every_second_of_a_step_belongs_to_one_phase_and_an_older_checkpoint_s_are_taken_over():
    made = trainer(SingleProcess())
    since = time.perf_counter()
    made.fit(batches(), STEPS)
    took = time.perf_counter() - since
    phases = made.progress.phases
    assert tuple(phases) == PHASES == ("input", "lookup", "forward", "backward", "exchange", "update")
    assert min(phases.values()) > 0
    assert 0.8 * took < sum(phases.values()) <= took
    tensors, record = made.state()
    record["phases"] = {name: 1.0 for name in PHASES if name != "lookup"}
    again = trainer(SingleProcess())
    again.restore(STEPS, tensors, record)
    assert again.progress.phases == dict.fromkeys(PHASES, 1.0) | {"lookup": 0.0}


def test_training_lowers_the_loss():
    model = trainer(SingleProcess())
    many = [batch for seed in range(12) for batch in batches(seed)[:-1]]
    progress = model.fit(many, len(many))
    assert progress.curve[-1][1] < progress.curve[0][1] - 0.05


@pytest.mark.parametrize("named", [False, True])
def test_rows_that_are_taken_have_all_that_a_slice_of_them_has(named):
    names = [f"n{at}" for at in range(6)] if named else None
    whole = Batch(
        ids=torch.arange(12).view(6, 2), numbers=torch.rand(6, 3), sequences={"clicked": torch.arange(24).view(6, 4)},
        label=torch.rand(6), weight=torch.rand(6), day=torch.arange(6), event_id=names, user=names,
        history={"user": (torch.rand(6, 2, 3), torch.rand(6, 2) > 0.5)}, domain=torch.tensor([0, 0, 0, 0, 1, 1]),
    )  # fmt: skip
    for start, stop in ((2, 5), (0, 6), (3, 3)):
        taken, cut = (vars(part) for part in (whole.take(torch.arange(start, stop)), whole.slice(start, stop)))
        for name in ("ids", "numbers", "label", "weight", "day", "domain"):
            assert torch.equal(taken.pop(name), cut.pop(name)), name
        assert torch.equal(taken.pop("sequences")["clicked"], cut.pop("sequences")["clicked"])
        assert all(map(torch.equal, taken.pop("history")["user"], cut.pop("history")["user"]))
        # What is left are the names.
        assert taken == cut == {"event_id": names and names[start:stop], "user": names and names[start:stop]}
