"""Read YAML: base < overlay < ``--set``, with errors that name the key and the nearest valid one."""

import difflib
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ecdctr.config.schema import Config
from ecdctr.exceptions import ConfigError

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_VARIABLE_DEFAULTS = {"ECDCTR_REAL_DATA": "../shared/data"}


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader (no tags, no code) that also refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _parse(text: str) -> Any:
    """The one way from text to values, for files and for ``--set``.

    Raises:
        YAMLError: No YAML, a tag, a key given twice, or nesting too deep to be meant.
    """
    try:
        return _UniqueKeyLoader(text).get_single_data()
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = _parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}", hint="mend the file at the place named") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: found a {type(tree).__name__}, expected keys and values")
    return tree


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _expand(value: Any, where: str) -> Any:
    """Replace ``${NAME}`` in texts by the environment's value."""
    if isinstance(value, dict):
        return {key: _expand(item, f"{where}.{key}" if where else str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, f"{where}.{at}") for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        name = found[1]
        text = os.environ.get(name) or _VARIABLE_DEFAULTS.get(name)
        if text is None:
            raise ConfigError(
                f"{_shown(where)}: the environment has no variable {name}", hint=f"set {name} or write the path out"
            )
        return text

    return _VARIABLE.sub(replace, value)


def _apply_set(tree: dict[str, Any], assignment: str) -> dict[str, Any]:
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {assignment!r}: expected key.path=value", hint="for example --set ranks=1")
    try:
        value: Any = _parse(text) if text else None
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--set {key}: not valid YAML: {error}", hint="quote it, for example --set 'a.b=[1, 2]'"
        ) from error
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return _merge(tree, dict(value))


def _base_files(config_path: Path) -> list[Path]:
    """The nearest ``base/`` folder beside the configuration or above it, within its ``conf`` tree."""
    for folder in (config_path.parent, *config_path.parent.parents[:2]):
        found = sorted((folder / "base").glob("*.yml"))
        if found:
            return found
    return []


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a configuration.

    Args:
        path: A YAML file, or a folder whose ``*.yml`` files are laid over one another by name.
        overrides: ``key.path=value`` texts; the value is read as YAML.

    Returns:
        The validated configuration.

    Raises:
        ConfigError: A missing file, invalid YAML, an unknown key, a wrong type or a value out of range.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.yml"))
    elif path.is_file():
        files = [path]
    else:
        near = difflib.get_close_matches(
            path.name, [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        )
        raise ConfigError(
            f"configuration {path} does not exist",
            hint=f"did you mean {path.parent / near[0]}?" if near else "give an existing YAML file or folder",
        )
    tree: dict[str, Any] = {}
    for file in [*_base_files(path), *files]:
        tree = _merge(tree, _read_yaml(file))
    for assignment in overrides:
        tree = _apply_set(tree, assignment)
    tree.setdefault("name", path.stem)
    return _validate(_expand(tree, ""), str(path))


def _validate(tree: dict[str, Any], origin: str) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [_describe(item) for item in error.errors(include_url=False)]
        raise ConfigError(f"{origin}: " + "; ".join(lines), hint="every key is described in conf/README.md") from error


def _describe(item: Any) -> str:
    location = [str(part) for part in item["loc"]]
    where = ".".join(map(_shown, location)) or "(top level)"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], sorted(_keys_at(location[:-1])), n=1, cutoff=0.5)
        return f"unknown key {where}" + (f"; did you mean {'.'.join([*location[:-1], near[0]])}?" if near else "")
    if item["type"] == "missing":
        return f"key {where} is required and missing"
    message = item["msg"].removeprefix("Value error, ")
    shown = (
        ""
        if isinstance(item["input"], dict | list) or message.startswith(repr(item["input"]))
        else f", found {item['input']!r}"
    )
    return f"{where}: {message}{shown}"


def _shown(text: str) -> str:
    """A key of a file as it may be sent to a terminal."""
    return text if text.isprintable() else repr(text)


def _keys_at(location: Sequence[str]) -> set[str]:
    """Valid keys below a location of the schema (any branch of a union counts)."""
    models: list[type[BaseModel]] = [Config]
    for part in location:
        following: list[type[BaseModel]] = []
        for model in models:
            field = model.model_fields.get(part)
            following += _models_in(field.annotation) if field else [model]
        models = following
    return {name for model in models for name in model.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
