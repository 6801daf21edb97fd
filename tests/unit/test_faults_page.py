"""docs/faults.md names tests that exist, stars those of the long campaigns alone, and leaves out no fault."""

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`(\*?)", PAGE)
UNKNOWN = {11}
"""F11 was never given out."""
GIVEN = set(range(1, 49)) - UNKNOWN


def long_tests(file: str) -> dict[str, bool]:
    """The tests of a file, and whether all of a test's cases, or the whole file, belong to the campaigns."""
    tree = ast.parse((ROOT / file).read_text())
    marked = any(
        isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "pytestmark"
        and "mark.campaign" in ast.unparse(node)
        for node in tree.body
    )
    return {
        node.name: marked or any(ast.unparse(each) == "pytest.mark.campaign" for each in node.decorator_list)
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize(("file", "name", "star"), sorted(set(NAMED)), ids=lambda value: str(value) or "-")
def test_a_named_test_exists_and_has_a_star_if_it_is_long(file, name, star):
    found = long_tests(file)
    assert name in found
    assert found[name] == bool(star)


def test_every_fault_is_survived_or_said_not_to_be_claimed():
    survived, rest = PAGE.split("## Not claimed")
    rows = {
        int(number)
        for row in re.findall(r"^\| ((?:F\d\d(?:, )?)+) \|", survived, re.MULTILINE)
        for number in re.findall(r"\d\d", row)
    }
    assert rows | {int(number) for number in re.findall(r"F(\d\d)", rest)} == GIVEN
    assert all("::test_" in line for line in survived.splitlines() if re.match(r"\| F\d\d", line))
    assert len(NAMED) == PAGE.count("::test_")
