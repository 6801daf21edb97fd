"""A version is built again with its field vectors in the order in which they were trained."""

import json

import pytest
import torch

from ecdctr.exceptions import IntegrityError
from ecdctr.training.structure import FILE, Structure
from tests.unit.test_model_lists import FEATURES, ROWS, make_batch

pytestmark = pytest.mark.unit


def structure() -> Structure:
    features = json.loads(json.dumps(dict(FEATURES.__dict__)))
    options = {"embedding_dim": 4, "hidden_units": [6]}
    return Structure(
        features=features, rows=ROWS, backbone="dcnv2", options=options, seed=2, fine_tune=None, tower=False, history=None,
        in_order=True,
    )  # fmt: skip


def test_lists_keep_their_place_among_the_fields(tmp_path):
    assert list(FEATURES.list_fields) != sorted(FEATURES.list_fields)
    structure().write(tmp_path)
    found = Structure.read(tmp_path)
    assert found == structure()
    assert list(found.features["sequence_fields"]) == list(FEATURES.sequence_fields)
    trained, again = structure().build().eval(), found.build().eval()
    again.load_state_dict(trained.state_dict())
    assert again.field_names == trained.field_names
    batch = make_batch(8)
    assert torch.equal(trained(batch), again(batch))


def test_a_version_whose_order_is_lost_is_refused_where_it_matters(tmp_path):
    tree = structure().model_dump(mode="json")
    del tree["in_order"]
    (tmp_path / FILE).write_text(json.dumps(tree, sort_keys=True))
    with pytest.raises(IntegrityError, match="the order of clicked, tags is lost") as found:
        Structure.read(tmp_path)
    assert "train it again" in found.value.hint
    del tree["features"]["sequence_fields"]["tags"]
    (tmp_path / FILE).write_text(json.dumps(tree, sort_keys=True))
    assert Structure.read(tmp_path).features["sequence_fields"].keys() == {"clicked", "clicked_shop", "clicked_times"}
