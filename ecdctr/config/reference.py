"""The configuration reference, written from the schema itself: `python -m ecdctr.config.reference > conf/README.md`."""

import sys
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ecdctr.config.schema import Config

HEAD = """# Configuration

One YAML tree: `conf/base/*.yml` < the file or folder given by `--config` < `--set key.path=value`. An unknown key is an error
that names the nearest valid one. `${NAME}` in a text is the environment's value. Lengths of time are whole days, `30d` or `4w`, and
where seconds are meant `30m`, `1h` or `1d`.

This page is written by `python -m ecdctr.config.reference` from the schema; a test holds it to that.

| key | type | default | meaning |
|---|---|---|---|
"""


def render() -> str:
    """The reference as Markdown: every key, one line each."""
    return HEAD + "".join(
        f"| `{key}` | {kind} | {default} | {text} |\n" for key, kind, default, text in _rows(Config, "")
    )


def _rows(model: type[BaseModel], prefix: str, given: BaseModel | None = None) -> Iterator[tuple[str, str, str, str]]:
    """Key, type, default and meaning of every key of a section.

    Args:
        model: Of the section.
        prefix: What stands before its keys.
        given: The section's own defaults, where they are others than its kind's.
    """
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner = list(_models(field.annotation))
        meaning = " ".join((field.description or "").split()) or "; ".join(_first_line(model) for model in inner[:1])
        value = getattr(given, name) if given is not None else _value(field)
        if len(inner) > 1:
            yield key, "list by `kind`", _default(field), field.description or "What samples are made of; by `kind`:"
            for variant in inner:
                kind = get_args(variant.model_fields["kind"].annotation)[0]
                yield f"{key}[] · kind: {kind}", "", "", _first_line(variant)
                yield from (row for row in _rows(variant, f"{key}[].") if not row[0].endswith(".kind"))
        elif inner:
            many = get_origin(_plain(field.annotation))
            kind, below = {list: ("list", "[]."), dict: ("mapping", ".NAME.")}.get(many, ("section", "."))
            said = field.is_required() or (kind == "section" and field.default is not None)
            yield key, kind, "" if said else _default(field), meaning
            yield from _rows(inner[0], f"{key}{below}", value if isinstance(value, BaseModel) else None)
        else:
            default = _default(field) if given is None else _shown(value)
            yield key, _type(field.annotation), default, meaning.replace("|", "\\|")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _type(annotation: Any) -> str:
    annotation = _plain(annotation)
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if part is type(None) else _type(part) for part in get_args(annotation))
    if origin is None:
        return getattr(annotation, "__name__", str(annotation))
    if origin is list:
        return f"list of {_type(get_args(annotation)[0])}"
    if origin is dict:
        return "mapping"
    if origin is tuple:
        return " and ".join(_type(part) for part in get_args(annotation))
    return " / ".join(f"`{value}`" for value in get_args(annotation))


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else _shown(_value(field))


def _value(field: FieldInfo) -> Any:
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _shown(value: Any) -> str:
    return "none" if value is None else f"`{value}`".replace("|", "\\|")


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    sys.stdout.write(render())
