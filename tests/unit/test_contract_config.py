"""Contracts of columns that say nothing, or something that the column cannot be, are refused by name."""

import pytest
from pydantic import ValidationError

from ecdctr.config.dataset import DatasetConfig

pytestmark = pytest.mark.unit

TREE = {
    "natural": {"path": "n"},
    "ads": {"path": "a"},
    "columns": {"user": "u", "item": "i", "time": {"column": "t", "unit": "s"}, "label": "y"},
    "features": [{"name": "price", "kind": "number"}, {"name": "category", "kind": "id"}],
}


@pytest.mark.parametrize(
    ("contract", "words"),
    [
        ({"prise": {"min": 0}}, "contract.prise: no feature reads this column; they read category, price"),
        ({"price": {"values": ["1"]}}, "'values' are for ids, and this column is a number"),
        ({"category": {"max": 1}}, "'min' and 'max' are for numbers, and this column is an id"),
        ({"price": {}}, "says nothing"),
        ({"price": {"min": 2, "max": 1}}, "min 2.0 is above max 1.0"),
        ({"price": {"max": float("inf")}}, "finite number"),
        ({"price": {"minimum": 1}}, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_is_named(contract, words):
    with pytest.raises(ValidationError) as caught:
        DatasetConfig.model_validate(TREE | {"contract": contract})
    assert words in str(caught.value)


def test_a_contract_binds_both_domains_unless_it_says_otherwise():
    found = DatasetConfig.model_validate(TREE | {"contract": {"price": {"min": 0}}})
    assert found.contract["price"].domains == ["natural", "ad"]
    assert "contract" in found.model_dump()
    assert "contract" not in DatasetConfig.model_validate(TREE).model_dump()
