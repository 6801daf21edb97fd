"""Every test belongs to the lane that its folder names."""

from pathlib import Path

import pytest

LANES = {"unit", "spark", "distributed", "integration", "real"}
TESTS = Path(__file__).parent / "tests"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by folder, and as `spark` whatever asks for a session."""
    for item in items:
        lane = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        wanted = {lane} & LANES | ({"spark"} & set(getattr(item, "fixturenames", ())))
        for mark in sorted(wanted):
            item.add_marker(mark)
