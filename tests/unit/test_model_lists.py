"""Lists in a model, against the same computed row by row: means, attributes, times, padding."""

import pytest
import torch

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.models.registry import build

pytestmark = pytest.mark.unit

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id", "shop"),
    number_fields=("price",),
    sequence_fields={"tags": 3, "clicked": 4, "clicked_shop": 4, "clicked_times": 4},
    vocabulary_of={
        "user_id": "user_id", "item_id": "item_id", "shop": "shop", "tags": "tags",
        "clicked": "item_id", "clicked_shop": "shop", "clicked_times": "clicked_times",
    },
    fixed_rows={"clicked_times": 42},
    oov_buckets={"user_id": 1, "item_id": 1, "shop": 1, "tags": 1, "clicked_times": 1},
    attention={"clicked": "item_id", "clicked_shop": "shop"},
    aligned={"clicked_shop": "clicked", "clicked_times": "clicked"},
)  # fmt: skip
ROWS = {"user_id": 9, "item_id": 9, "shop": 9, "tags": 9, "clicked_times": 42}
D = 4


def make_batch(rows: int) -> Batch:
    torch.manual_seed(3)
    sequences = {name: torch.randint(1, 9, (rows, length)) for name, length in FEATURES.sequence_fields.items()}
    tags, clicks = torch.randint(0, 4, (rows,)), torch.randint(0, 5, (rows,))
    for name, length in FEATURES.sequence_fields.items():
        sequences[name][torch.arange(length) >= (tags if name == "tags" else clicks)[:, None]] = 0
    return Batch(
        ids=torch.randint(1, 9, (rows, 3)), numbers=torch.randn(rows, 1), sequences=sequences,
        label=torch.ones(rows), weight=torch.ones(rows), day=torch.zeros(rows, dtype=torch.int64),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["dcnv2", "deepfm", "din"])
def test_fields_are_those_worked_out_row_by_row(name):
    model = build(name, features=FEATURES, rows=ROWS, seed=2, embedding_dim=D, hidden_units=[6])
    model.tables.weight.mul_(50)
    batch = make_batch(12)
    assert (batch.sequences["tags"] != 0).sum(1).unique().tolist() == [0, 1, 2, 3]
    fields, _ = model.inputs(batch)
    assert fields.shape == (12, model.fields, D) == (12, 5, D)

    def vector(column: str, encoded: int) -> torch.Tensor:
        return model.tables.table(FEATURES.vocabulary_of[column])[encoded][:D]

    for row in range(12):
        tags = [vector("tags", tag) for tag in batch.sequences["tags"][row].tolist() if tag]
        mean = torch.stack(tags).mean(0) if tags else torch.zeros(D)
        torch.testing.assert_close(fields[row, 3], mean)
        ids = batch.ids[row].tolist()
        query = vector("item_id", ids[1]) + vector("shop", ids[2])
        interest = torch.zeros(D)
        for item, shop, time in zip(
            *(batch.sequences[c][row].tolist() for c in ("clicked", "clicked_shop", "clicked_times")), strict=True
        ):
            if item:
                key = vector("clicked", item) + vector("clicked_shop", shop) + vector("clicked_times", time)
                score = model.attentions["clicked"].score(torch.cat([query, key, query - key, query * key])[None])[0]
                interest = interest + score * key
        torch.testing.assert_close(fields[row, 4], interest, rtol=1e-4, atol=1e-5)


def test_every_vocabulary_learns_and_padding_does_not():
    model = build("dcnv2", features=FEATURES, rows=ROWS, seed=2, embedding_dim=D, hidden_units=[6])
    model(make_batch(40)).sum().backward()
    places, gradients = model.tables.touched_gradients()
    for name, offset in model.tables.offsets.items():
        mine = (places >= offset) & (places < offset + ROWS[name])
        assert gradients[mine].abs().sum() > 0, name
        assert offset not in places[mine].tolist()
