"""The configuration reference says what the schema says, every key with its meaning."""

from pathlib import Path

import pytest

from ecdctr.config.reference import render

pytestmark = pytest.mark.unit


def test_the_reference_is_up_to_date():
    page = Path(__file__).parents[2] / "conf" / "README.md"
    assert page.read_text() == render(), "run: python -m ecdctr.config.reference > conf/README.md"


def test_every_key_has_a_meaning():
    assert [line for line in render().splitlines() if line.endswith("|  |")] == []
