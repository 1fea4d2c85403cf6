"""``run.toml``: everything that a run was given, as a file that another run can be given."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# The table of the recipe's settings; all other keys are options of the command.
SETTINGS = "settings"
NAME = "run.toml"


def render(options: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The text of a file with these options and settings; None is left out, as TOML has no word for it."""
    head = "# What this run was given. To repeat it: spineone-train fit --config run.toml --out FOLDER\n"
    return head + "\n".join([*_table(options, ""), *_table(settings, SETTINGS)]) + "\n"


def _table(values: Mapping[str, Any], name: str) -> Iterator[str]:
    if name:
        yield f"\n[{name}]"
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    for key, value in values.items():
        if key not in tables and value is not None:
            yield f"{key} = {_value(value)}"
    for key, value in tables.items():
        yield from _table(value, f"{name}.{key}" if name else key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else f"{'-' if value < 0 else ''}inf"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    # A basic string of TOML is a string of JSON, but for DEL.
    return json.dumps(str(value)).replace("\x7f", "\\u007f")


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options and the settings of a file.

    Raises
    ------
    ValueError
        If it cannot be read or is no TOML; the message names it.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: no file of settings: {error}") from error
    settings = content.pop(SETTINGS, {})
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: {SETTINGS} is no table")
    return content, settings
