"""Environment variables that mean to be settings but are none: a misspelt one must not be ignored.

Variables without ``__`` that name no setting are left alone: in Kubernetes every service called ``spineone-...`` makes
some, such as ``SPINEONE_WEB_SERVICE_HOST``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

PREFIX, SEPARATOR = "SPINEONE_", "__"


def problems_of(environment: Mapping[str, str], model: type[BaseModel]) -> list[str]:
    """What is wrong with the variables that name settings, one line each, without their values.

    Parameters
    ----------
    environment
        Variables by name; names of settings may be in any case.
    model
        The settings, whose fields are keys, tables or lists of tables.
    """
    named = {name.upper(): value for name, value in environment.items() if name.upper().startswith(PREFIX)}
    return [
        f"environment variable {name}: {what}"
        for name, value in sorted(named.items())
        for what in _problems(name.removeprefix(PREFIX).lower(), value, model.model_fields)
    ]


def _problems(name: str, value: str, fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    section, separator, key = name.partition(SEPARATOR)
    field = fields.get(section)
    if not separator:
        if field is not None and (_table(field) or _is_list(field)) and not _is_json(value):
            yield "is not valid JSON"
        return
    if field is None:
        yield f"there is no table {section!r} in the settings"
        return
    table = _table(field)
    if table is None:
        yield f"{section!r} is no table; a list is given whole, as JSON, in {PREFIX}{section.upper()}"
    elif key not in table.model_fields:
        yield f"there is no key {key!r} in [{section}]"
    elif _is_list(table.model_fields[key]) and not _is_json(value):
        yield "is not valid JSON"


def _table(field: FieldInfo) -> type[BaseModel] | None:
    kind: Any = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) in (tuple, list)


def _is_json(value: str) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True
