"""Petastorm's pool may say "done" too early; no row is lost for it."""

import pytest

from ecdctr.data import reader
from ecdctr.exceptions import InputError

pytestmark = pytest.mark.unit


class Early:
    """Says that it is done before each of its groups."""

    def __init__(self, groups):
        self.groups = [part for group in groups for part in (StopIteration(), group)]

    def __next__(self):
        if not self.groups:
            raise StopIteration
        found = self.groups.pop(0)
        if isinstance(found, StopIteration):
            raise found
        return found


def test_groups_that_come_late_are_read():
    early = Early(["a", "b"])
    assert [reader._next_group(early), reader._next_group(early)] == ["a", "b"]


def test_groups_that_never_come_are_an_error(monkeypatch):
    monkeypatch.setattr(reader, "END_CHECK_SECONDS", 0.0)
    with pytest.raises(InputError, match="fewer rows"):
        reader._next_group(Early([]))
