"""One set of versions: setup.py, constraints.txt and what is installed say the same."""

import re
from distutils.core import run_setup
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:distutils"),
]
ROOT = Path(__file__).parents[2]
BUILT = {"horovod"}


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def wanted(monkeypatch) -> list[Requirement]:
    monkeypatch.chdir(ROOT)
    metadata = run_setup("setup.py", stop_after="init")
    texts = [*metadata.install_requires, *(text for extra in metadata.extras_require.values() for text in extra)]
    return [Requirement(text) for text in texts]


def test_constraints_are_sorted_exact_pins():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines)
    assert lines == sorted(set(lines), key=lambda line: line.split("==")[0])


def test_every_direct_requirement_has_a_pin_that_fits(monkeypatch):
    known = pins()
    for requirement in wanted(monkeypatch):
        name = canonicalize_name(requirement.name)
        assert name in known or name in BUILT
        assert name in BUILT or requirement.specifier.contains(known[name], prereleases=True), requirement


def test_every_transitive_requirement_has_a_pin_and_no_pin_is_idle(monkeypatch):
    todo, seen = [*wanted(monkeypatch), Requirement("pip"), Requirement("wheel")], set()
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            needs = distribution(requirement.name).requires or []
        except PackageNotFoundError:
            pytest.skip(f"{requirement.name} is not installed: only the full environment of `make setup` can tell")
        for need in map(Requirement, needs):
            extras = ("", *requirement.extras)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(need)
    assert {name for name, _ in seen} - BUILT == set(pins())
