"""The settings as text: the commented ``node.toml`` and docs/configuration.md, both from the one table in `settings`.

``python -m dicom_node.settings.text > docs/configuration.md`` (or ``make configuration``) rewrites the document.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, cast, get_args, get_origin

from pydantic.fields import FieldInfo

from dicom_node.settings.node import NodeSettings
from dicom_node.settings.types import Section


def render_toml(values: dict[str, Any] | None = None) -> str:
    """A commented settings file with every key at its default, except for the top-level keys in ``values``.

    A key without a default is written as a comment. Each list of tables is written as a comment too, with one example.
    """
    lines = [
        "# Settings of the SpineOne node. Every key is shown with its default.",
        "# An environment variable SPINEONE_<SECTION>__<KEY> overrides a key, e.g. SPINEONE_LISTENER__PORT=104.",
        "",
    ]
    fields = NodeSettings.model_fields
    simple = {name: field for name, field in fields.items() if not sections_of(field.annotation)}
    lines += _render_keys(simple, values or {})
    for name, field in fields.items():
        for section in sections_of(field.annotation):
            lines += ["", *_render_section(name, field, section)]
    return "\n".join(lines) + "\n"


def sections_of(annotation: Any) -> list[type[Section]]:
    """The classes of the table or tables that a field of `NodeSettings` holds, one for each kind; none for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_of(part)]


def _render_section(name: str, field: FieldInfo, section: type[Section]) -> Iterator[str]:
    yield f"# {(section.__doc__ or '').strip()}"
    if field.annotation is section:
        yield f"[{name}]"
        yield from _render_keys(section.model_fields, {})
    else:
        yield f"# [[{name}]]"
        for line in _render_keys(section.model_fields, {}):
            yield f"# {line.removeprefix('# ')}"


def _render_keys(fields: dict[str, FieldInfo], values: dict[str, Any]) -> Iterator[str]:
    width = 34
    for name, field in fields.items():
        extra = cast("dict[str, Any]", field.json_schema_extra or {})
        example = extra.get("example")
        value = values.get(name, field.default if example is None and not field.is_required() else example)
        text = f'# {name} = ""' if value is None else f"{name} = {_toml_value(value)}"
        unit = f" [{extra['unit']}]" if extra.get("unit") else ""
        yield f"{text:<{width}}  # {field.description}{unit}"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) and value != int(value) else f"{value:.0f}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


# ---------------------------------------------------------------- docs/configuration.md

_TYPE_NAMES = {"bool": "true or false", "int": "whole number", "float": "number", "str": "text", "Path": "path"}
_HEAD = """# Configuration

For administrators: every setting of the node, its type, its default and what it does. The code writes this document
(`make configuration`); do not edit it.

All settings are in one TOML file, `node.toml`. `dicom-node init` writes it with every key at its default.
`dicom-node check` lists all errors in it at once and then exits with status 2; an unknown key is an error. Keys without
a default must be given; where the default is `none`, `""` says the same. Relative paths count from the file's folder.
Every process reads the file once, when it starts: restart the node after a change. An environment variable overrides
its key; a list is given there as JSON. A variable with `__` that names no setting is an error; other variables that
begin with `SPINEONE_` and name no setting are left alone, since Kubernetes makes such for services.
"""


def render_markdown() -> str:
    """docs/configuration.md: every key with type, unit, default, documentation line and environment variable."""
    fields = NodeSettings.model_fields
    simple = {name: field for name, field in fields.items() if not sections_of(field.annotation)}
    lines = [_HEAD, "## Top level", "", *_markdown_table(simple, "SPINEONE_")]
    for name, field in fields.items():
        kinds = sections_of(field.annotation)
        for section in kinds:
            lines += ["", *_markdown_section(name, field, section, is_one_of_several=len(kinds) > 1)]
    return "\n".join(lines) + "\n"


def _markdown_section(name: str, field: FieldInfo, section: type[Section], *, is_one_of_several: bool) -> Iterator[str]:
    is_list = field.annotation is not section
    kind = f' with `kind = "{get_args(section.model_fields["kind"].annotation)[0]}"`' if is_one_of_several else ""
    yield f"## `[[{name}]]`{kind}" if is_list else f"## `[{name}]`"
    yield ""
    yield (section.__doc__ or "").strip()
    variable = f"SPINEONE_{name.upper()}"
    if is_list:
        yield f"Each has a table of its own; in the environment, `{variable}` holds all of them as one JSON list."
    yield ""
    yield from _markdown_table(section.model_fields, "" if is_list else f"{variable}__")


def _markdown_table(fields: dict[str, FieldInfo], prefix: str) -> Iterator[str]:
    heads = ["key", "type", "default", "unit", "what", *(["environment"] if prefix else [])]
    yield _row(heads)
    yield _row(["---"] * len(heads))
    for name, field in fields.items():
        extra = cast("dict[str, Any]", field.json_schema_extra or {})
        cells = [f"`{name}`", _type_of(field), _default_of(field), extra.get("unit", ""), field.description or ""]
        yield _row([*cells, *([f"`{prefix}{name.upper()}`"] if prefix else [])])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    return "none" if field.default is None else f"`{_toml_value(field.default)}`"


def _type_of(field: FieldInfo) -> str:
    name = _type_name(field.annotation)
    # The rules of an optional value are inside its Annotated.
    rules = [*field.metadata, *(rule for part in get_args(field.annotation) for rule in _field_rules(part))]
    limits = [_limit(rule) for rule in rules]
    return ", ".join([name, *(limit for limit in limits if limit)])


def _field_rules(annotation: Any) -> list[Any]:
    fields = [part for part in getattr(annotation, "__metadata__", ()) if isinstance(part, FieldInfo)]
    return [rule for field in fields for rule in field.metadata]


def _type_name(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(f'`"{value}"`' for value in inner)
    if origin is tuple:
        return f"list of {_type_name(inner[0])}"
    if origin in (Union, types.UnionType):
        return next(_type_name(part) for part in inner if part is not type(None))
    # In an Annotated, the type itself comes first.
    bare = inner[0] if inner else annotation
    return _TYPE_NAMES[bare.__name__]


def _limit(rule: Any) -> str:
    for attribute, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most")):
        bound = getattr(rule, attribute, None)
        if bound is not None:
            return f"{words} {bound:.15g}"
    return ""


if __name__ == "__main__":
    print(render_markdown(), end="")
