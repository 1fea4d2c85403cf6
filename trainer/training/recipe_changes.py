"""A recipe with some of its settings changed: by name, as the command line and a file of settings give them."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def changed(config: T, values: Mapping[str, Any], path: str = "") -> T:
    """The config (a dataclass that may hold others) with other values; ``values`` is nested as the config is.

    A list is taken for a tuple, and a whole number for one with a fraction.

    Raises
    ------
    ValueError
        If there is no such setting, or its value has another type or is impossible; the message names it.
    """
    names = [field.name for field in dataclasses.fields(config)]  # type: ignore[arg-type]
    new: dict[str, Any] = {}
    for name, value in values.items():
        if name not in names:
            raise ValueError(
                f"unknown setting {path}{name}; allowed: {', '.join(path + known for known in sorted(names))}"
            )
        old = getattr(config, name)
        if dataclasses.is_dataclass(old):
            if not isinstance(value, Mapping):
                raise ValueError(f"setting {path}{name} is a table of settings, such as {path}{name}.NAME")
            new[name] = changed(old, value, f"{path}{name}.")
        else:
            new[name] = _as_type(old, value, f"{path}{name}")
    return dataclasses.replace(config, **new)  # type: ignore[type-var]


def _as_type(old: Any, value: Any, name: str) -> Any:
    if isinstance(old, tuple) and isinstance(value, list | tuple) and all(type(v) in (int, float) for v in value):
        kind = type(old[0]) if old else float
        if kind is float or all(isinstance(v, int) for v in value):
            return tuple(kind(v) for v in value)
    elif isinstance(old, float) and type(value) in (int, float):
        return float(value)
    elif type(value) is type(old):
        return value
    raise ValueError(f"setting {name} = {value!r}; it must be like {old!r}")


def nested(assignments: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted name, such as ``network.width``, as tables in tables."""
    tree: dict[str, Any] = {}
    for name, value in assignments.items():
        *tables, last = name.split(".")
        place = tree
        for table in tables:
            place = place.setdefault(table, {})
        place[last] = value
    return tree


def parse_assignment(text: str) -> tuple[str, Any]:
    """Name and value of ``NAME=VALUE``; the value is written as in TOML, but words need no quotes.

    Raises
    ------
    ValueError
        If the text has no name or no value.
    """
    name, separator, value = (part.strip() for part in text.partition("="))
    if not (separator and name and value):
        raise ValueError(f"{text!r} is not NAME=VALUE, such as network.width=32")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value
