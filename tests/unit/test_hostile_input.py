"""What comes from outside is refused or rendered harmless, and never run.

Beside these: foreign Parquet with pickled metadata in `test_reader`, pickled embeddings in `test_transfer_aggregate`,
HTML and control characters in names in `test_report_whole`, `test_comparison_report` and `test_quality_report`, secrets and
addresses of hooks in `test_hooks`.
"""

import builtins
import os
import pickle
import zipfile

import pytest
import torch
from safetensors import SafetensorError
from torch import nn
from typer.testing import CliRunner

from ecdctr.artifacts.checkpoints import MARKER, TENSORS, CheckpointFolder
from ecdctr.artifacts.files import digest_file, write_json
from ecdctr.cli import app
from ecdctr.config import load_config
from ecdctr.exceptions import ConfigError
from ecdctr.training.versions import NETWORK, TABLES, load_version

pytestmark = pytest.mark.unit

GOOD = """
dataset:
  natural: {path: natural}
  ads: {path: ads}
  columns: {user: u, item: i, time: {column: t, unit: s}, label: y}
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "shop.yml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def nothing_runs(monkeypatch):
    """Fails where a call of the outside would have come about."""

    def ran(*arguments):
        raise AssertionError(f"run: {arguments}")

    for owner, name in ((os, "system"), (builtins, "eval"), (builtins, "exec"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(owner, name, ran)


class Bomb:
    def __reduce__(self):
        return os.system, ("true",)


BOMB = pickle.dumps(Bomb())

TEXTS = [
    "!!python/object/apply:os.system ['true']",
    "!!python/name:os.system",
    "!!python/object/new:os.system ['true']",
    "!include /etc/passwd",
    "{x: 1, x: 2}",
    "{x: {y: 1, y: 1}}",
    "? [1, 2]\n: 3",
    "[" * 5000,
    "a\x00b",
    "{x: 1",
]


@pytest.mark.parametrize("text", TEXTS)
def test_yaml_with_tags_double_keys_or_no_sense_is_refused_in_files(config_file, nothing_runs, text):
    config_file.write_text(GOOD + f"quality: {text}\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(config_file)


@pytest.mark.parametrize("text", TEXTS)
def test_and_in_set(config_file, nothing_runs, text):
    with pytest.raises(ConfigError, match="--set quality: not valid YAML"):
        load_config(config_file, [f"quality={text}"])


def test_bytes_that_are_no_text_are_refused(config_file):
    config_file.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(config_file)


NAMES = [
    "../up",
    "..",
    ".hidden",
    "a/b",
    "/etc",
    "a\\b",
    "a\nb",
    "a\n",
    "a\x1b[31m",
    "a\u202eb",
    "a b",
    "",
    "a\x7f",
    "<b>",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_name_of_a_folder_is_refused(config_file, name):
    tree = GOOD + "name: " + _quoted(name) + "\n"
    config_file.write_text(tree, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(config_file)
    _harmless(caught.value)


@pytest.mark.parametrize("name", [*NAMES, "Ä", "upper Case", "label", "event_date"])
def test_a_feature_s_name_is_a_column_s(config_file, name):
    config_file.write_text(GOOD + "  features: [{name: " + _quoted(name) + ", kind: id}]\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(config_file)
    _harmless(caught.value)


@pytest.mark.parametrize("key", ["../up", "a\nb", "__class__", "<script>", "\x1b[31m"])
def test_an_unknown_key_is_named_without_doing_harm(config_file, key):
    config_file.write_text(GOOD + _quoted(key) + ": 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="unknown key") as caught:
        load_config(config_file)
    _harmless(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "model.backbone=os.system", "model.backbone=torch.nn.Linear", "arms=[os.system]", "transfer.policy=builtins.eval",
        "dataset.features=[{name: a, kind: 'ecdctr.cli:main'}]", "levels.cpm.training.optimizer='__import__(\"os\")'",
        "model.hidden_units='__import__(\"os\")'", "hooks=[{name: x, class: os.system}]",
    ],
)  # fmt: skip
def test_a_configuration_names_no_class_and_no_code(config_file, nothing_runs, override):
    with pytest.raises(ConfigError):
        load_config(config_file, [override])


@pytest.mark.parametrize("name", ["../ledger", "ad_samples/../ledger", "a\nb", "\x1b[31m"])
def test_the_command_line_looks_names_up_and_makes_no_path_of_them(config_file, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for group in ("tables", "models"):
        done = CliRunner().invoke(app, [group, "show", name, "--config", str(config_file)])
        assert done.exit_code == 2
        assert "Traceback" not in done.output
        assert "\x1b" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == [config_file.name]


def _pickled(path, kind):
    """A file as torch.save or pickle.dump would leave it, with a call inside."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", BOMB)
    else:
        path.write_bytes(BOMB)


@pytest.mark.parametrize("kind", ["plain", "zip"])
def test_a_model_file_with_a_pickle_inside_is_refused(tmp_path, nothing_runs, kind):
    for name in (NETWORK, TABLES):
        _pickled(tmp_path / name, kind)
    with pytest.raises(SafetensorError):
        load_version(nn.Module(), tmp_path)


@pytest.mark.parametrize("kind", ["plain", "zip"])
def test_a_checkpoint_with_a_pickle_inside_is_passed_over_even_if_its_digest_fits(tmp_path, nothing_runs, kind):
    folder = CheckpointFolder(tmp_path, "task")
    folder.save(1, {"w": torch.ones(2)}, {"at": 1})
    folder.save(2, {"w": torch.zeros(2)}, {"at": 2})
    newest = tmp_path / "step-000000002"
    _pickled(newest / TENSORS, kind)
    marker = {"task": "task", "step": 2, "digests": {TENSORS: digest_file(newest / TENSORS)}, "record": {"at": 2}}
    write_json(newest / MARKER, marker)
    assert folder.whole() == [1]
    tensors, _, record = folder.load(1)
    assert record == {"at": 1}
    assert tensors["w"].tolist() == [1.0, 1.0]


def _quoted(text: str) -> str:
    """As a YAML text in double quotes."""
    return '"' + "".join(f"\\U{ord(letter):08x}" for letter in text) + '"'


def _harmless(error: ConfigError) -> None:
    """Control characters of the input are shown, not sent to the terminal."""
    assert error.exit_code == 2
    assert not [letter for letter in str(error).replace("\nHINT: ", " ") if ord(letter) < 32 or ord(letter) == 127]
    assert "\u202e" not in str(error)
