"""A kind of feature is one file and one registration, in this package or in a stranger's; Spark is not loaded for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecdctr.config.dataset import DatasetConfig
from ecdctr.features import Feature
from ecdctr.features import kinds as package
from ecdctr.features.installed import installed_kinds, kind_name
from ecdctr.features.kinds import KINDS
from tests.feature_package import install, install_example

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
BROKEN = '''
from typing import Literal
from ecdctr.features import Feature

class Lacking(Feature):
    """Says nothing of its columns."""
    kind: Literal["lacking"]

class Other(Feature):
    """Has another kind."""
    kind: Literal["another"]
    def columns(self):
        return []
    def encode(self, frame, scene):
        return frame, {}

class Free(Other):
    """Fixes no kind."""
    kind: str

def function():
    pass
'''
CONFIG = """
dataset:
  natural: {path: n}
  ads: {path: a}
  columns: {user: u, item: i, time: {column: t, unit: s}, label: y}
  features:
    - {kind: id, name: category}
    - {kind: choice, name: network, values: [wifi, 5g]}
"""
PARSED = """
import sys
from ecdctr.config import load_config
from ecdctr.config.reference import render
from ecdctr.exceptions import ConfigError
from ecdctr.features.feature_set import feature_set, log_columns

features = load_config(sys.argv[1]).dataset.features
print(log_columns(features), feature_set(features, {}).fixed_rows)
try:
    load_config(sys.argv[1], ["dataset.features=[{kind: choice, name: network}]"])
except ConfigError as error:
    print(error.message.partition(": ")[2])
print(*[line for line in render().splitlines() if "choice" in line], sep="\\n")
print([name for name in ("pyspark", "torch", "horovod") if name in sys.modules])
"""


def python(code, *arguments, path=""):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), path]))}
    told = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return told.stdout.splitlines()


def test_configuration_and_commands_load_no_spark():
    code = "import sys, ecdctr.config, ecdctr.cli; print([m for m in ('pyspark', 'torch') if m in sys.modules])"
    assert python(code) == ["[]"]


def test_each_file_of_kinds_is_one_registered_kind():
    files = {path.stem for path in Path(package.__path__[0]).glob("*.py")} - {"__init__"}
    assert {kind_name(kind): kind.__module__.rpartition(".")[2] for kind in KINDS} == {name: name for name in files}


def test_an_installed_kind_is_as_good_as_a_shipped_one(tmp_path):
    install_example(tmp_path)
    (tmp_path / "shop.yml").write_text(CONFIG)
    columns, missing, section, *_, loaded = python(PARSED, str(tmp_path / "shop.yml"), path=str(tmp_path))
    assert columns == "{'category': 'string', 'network': 'string'} {'network': 5}"
    assert missing == "key dataset.features.0.choice.values is required and missing"
    assert section.startswith("| `dataset.features[] · kind: choice` |")
    assert loaded == "[]"


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("stranger", None)


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        ("id", "stranger:Other", "the name is taken"),
        ("absent", "no_such_module:Thing", "No module named 'no_such_module'"),
        ("absent", "stranger:Thing", "has no attribute 'Thing'"),
        ("function", "stranger:function", "no class derived from ecdctr.features.Feature"),
        ("lacking", "stranger:Lacking", "it lacks columns, encode"),
        ("other", "stranger:Other", r"kind: Literal\['other'\]"),
        ("free", "stranger:Free", r"kind: Literal\['free'\]"),
    ],
)
def test_a_wrong_entry_point_holds_up_only_who_asks_for_its_kind(stranger, monkeypatch, kind, target, reason):
    install(stranger, {kind: target, "another": "stranger:Other"})
    found = installed_kinds(KINDS)
    assert [kind_name(usable) for usable in found.kinds] == ["another"]
    assert issubclass(found.kinds[0], Feature)
    monkeypatch.setattr(package, "INSTALLED", found)
    given = {
        "natural": {"path": "n"},
        "ads": {"path": "a"},
        "columns": {"user": "u", "item": "i", "time": {"column": "t"}, "label": "y"},
    }
    assert DatasetConfig.model_validate(given | {"features": [{"kind": "cross", "name": "a", "sources": ["b", "c"]}]})
    with pytest.raises(ValueError, match=f"entry point '{kind}' = '{target}' of ecdctr.feature_kinds.*{reason}"):
        DatasetConfig.model_validate(given | {"features": [{"kind": kind, "name": "a"}]})


def test_of_two_packages_with_one_kind_neither_is_taken(stranger):
    install(stranger, {"another": "stranger:Other"})
    install(stranger, {"another": "stranger:Other"}, "second")
    found = installed_kinds(KINDS)
    assert found.kinds == ()
    assert "the name is taken by another kind" in found.unusable["another"]
