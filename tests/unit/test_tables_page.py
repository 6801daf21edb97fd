"""docs/tables.md says of every table and column what its schema says."""

from pathlib import Path

import pytest

from ecdctr.lake.schema import TABLES

pytestmark = pytest.mark.unit

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()


@pytest.mark.parametrize("spec", TABLES.values(), ids=TABLES)
def test_the_page_describes_every_column_and_constraint(spec):
    section = PAGE.split(f"\n## `{spec.name}`\n")[1].split("\n## ")[0]
    for column in spec.columns:
        null = "; may be null" if column.nullable else ""
        assert f"| `{column.name}` | {column.type} | {column.comment}{null} |" in section
    for name, condition in spec.checks.items():
        assert f"`{name}`: `{condition}`" in section
    assert spec.comment[1:] in section
    assert (f"Partitioned by `{spec.partition}`" in section) == (spec.partition is not None)
