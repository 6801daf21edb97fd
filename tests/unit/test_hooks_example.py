"""The example of a company's own hooks: found as an installed package is, and handed over in Python."""

import dataclasses
import datetime as dt
import json
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from ecdctr.config.operations import HookConfig
from ecdctr.exceptions import ConfigError
from ecdctr.hooks import DayEvent, FailureEvent, HookError, Hooks, PublishEvent, TableEvent

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "hooks"
DAY = dt.date(2024, 3, 5)
COMMIT = {
    "job": "prepare", "table": "ad_samples", "version": 3, "rows": 42, "inputs": ("vocabulary",), "since": DAY,
    "until": dt.date(2024, 3, 6),
}  # fmt: skip
PUBLISH = {
    "version": "actr-1", "level": "actr", "arm": "ecdctr", "date": DAY, "parents": ("cpm-1",), "tables": {"ad_samples": 3},
}  # fmt: skip


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """What an installer leaves: the module on the path, and the entry points of the package's own metadata."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / f"shop_hooks-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield project["entry-points"]["ecdctr.hooks"]
    for name in ("shop_hooks", "in_python"):
        sys.modules.pop(name, None)


def configured(name, on_error=None, **options):
    return HookConfig(name=name, on_error=on_error, options=options)


def test_a_configuration_finds_them_by_the_names_of_the_package(installed, tmp_path):
    assert set(installed) == {"catalogue", "row_guard"}
    entry = configured("catalogue", path="{warehouse}/_catalogue.jsonl")
    hooks = Hooks([entry, configured("row_guard", ad=10)], name="shop", warehouse=tmp_path)
    hooks.fire(DayEvent, day=DAY, rows={"natural": 0, "ad": 10})
    hooks.fire(TableEvent, **COMMIT)
    hooks.fire(PublishEvent, **PUBLISH)
    lines = [json.loads(line) for line in (tmp_path / "_catalogue.jsonl").read_text().splitlines()]
    assert lines == [
        {"table": "ad_samples", "version": 3, "rows": 42, "until": "2024-03-06"},
        {"model": "actr-1", "made_from": ["cpm-1"], "tables": {"ad_samples": 3}},
    ]


def test_without_the_package_the_name_is_unknown():
    with pytest.raises(ConfigError, match="no hook 'row_guard'"):
        Hooks([configured("row_guard", ad=1)])


def test_options_that_a_hook_does_not_take_are_named(installed):
    with pytest.raises(ConfigError, match=r"hooks\.0"):
        Hooks([configured("row_guard", adds=1)])


def test_the_guard_fails_its_step_and_the_catalogue_does_not(installed, tmp_path, caplog, capsys):
    guard = configured("row_guard", natural=1, ad=11)
    with pytest.raises(HookError, match="2024-03-05 has too few rows: ad 10 of 11"):
        Hooks([guard]).fire(DayEvent, day=DAY, rows={"natural": 5, "ad": 10})
    Hooks([configured("row_guard", "report", ad=11)]).fire(DayEvent, day=DAY, rows={})
    assert "too few rows" in caplog.text
    Hooks([guard], name="shop").fire(FailureEvent, error="InputError", message="no rows")
    assert capsys.readouterr().out == "shop: InputError: no rows\n"
    (tmp_path / "file").write_text("")
    Hooks([configured("catalogue", path=str(tmp_path / "file" / "x"))]).fire(TableEvent, **COMMIT)
    assert "hook 'catalogue' failed at after_table_commit" in caplog.text


@dataclasses.dataclass
class Nothing:
    """A summary."""


def test_handed_over_in_python(installed, tmp_path, monkeypatch):
    def prepared(spark, config, until, hooks):
        hooks.fire(TableEvent, **COMMIT | {"until": until})
        return Nothing()

    monkeypatch.setattr("ecdctr.pipelines.prepare.prepare", prepared)
    config = tmp_path / "shop.yml"
    config.write_text(
        "dataset:\n  natural: {path: n}\n  ads: {path: a}\n"
        "  columns: {user: u, item: i, time: {column: t, unit: s}, label: y}\n"
    )
    found = import_module("in_python").prepare(str(config), DAY, f"warehouse={tmp_path}")
    assert found == {}
    assert json.loads((tmp_path / "shop" / "_catalogue.jsonl").read_text())["until"] == "2024-03-05"
