"""Reading the settings file: it turns TOML into settings, or reports all errors at once."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dicom_node.errors import SettingsError
from dicom_node.settings.environment import problems_of
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.types import base_folder

CONFIG_NAME = "node.toml"


def load_settings(path: Path) -> NodeSettings:
    """Read a settings file.

    Raises
    ------
    SettingsError
        If anything is wrong. It lists all errors at once, one per line, each with its key and rule.
    """
    values = _read_toml(path)
    token = base_folder.set(path.parent.resolve())
    try:
        return _settings(values, f"{path}: ")
    finally:
        base_folder.reset(token)


def default_settings() -> NodeSettings:
    """The settings without a file: defaults, and what the environment says.

    Raises
    ------
    SettingsError
        If the environment says something wrong.
    """
    return _settings({}, "")


def _settings(values: dict[str, Any], where: str) -> NodeSettings:
    problems = problems_of(os.environ, NodeSettings)
    if any("JSON" in problem for problem in problems):
        # Nothing else can be checked: pydantic gives up at the first such variable.
        raise SettingsError(problems)
    try:
        settings = NodeSettings(**values)
    except ValidationError as error:
        raise SettingsError([*problems, *_new(error, where, problems)]) from None
    if problems:
        raise SettingsError(problems)
    return settings


def _new(error: ValidationError, where: str, problems: list[str]) -> list[str]:
    """What a validation found besides the problems of the environment, whose misspelt keys it sees too."""
    named = {problem.split()[2].rstrip(":") for problem in problems}
    found = error.errors()
    return [where + _plain(e) for e in found if "SPINEONE_" + "__".join(map(str, e["loc"])).upper() not in named]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            [f"{path}: no such settings file; `dicom-node init` writes one, --config names another"]
        ) from None
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path}: is not UTF-8 text"]) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{path}: is not valid TOML: {error}"]) from None


_RULES = {
    "extra_forbidden": "unknown key",
    "missing": "is missing",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text in quotes",
    "path_type": "must be text in quotes",
    "tuple_type": "must be a list",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "literal_error": "must be one of {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
}


def _plain(error: ErrorDetails) -> str:
    """One validation error as key, rule and value, in plain words."""
    kind, place = _placed(error)
    key = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    rule = _RULES.get(error["type"], "")
    rule = rule.format(**error.get("ctx", {})) if rule else error["msg"].removeprefix("Value error, ")
    # A database URL may hold a password, and a webhook's URL may hold a key.
    if kind and error["type"] == "extra_forbidden":
        rule = f'{rule} of a table with kind = "{kind}"'
    secret = error["type"] == "extra_forbidden" or bool({"database_url", "url"} & set(error["loc"]))
    given = error["input"].get("kind") if error["type"] == "union_tag_invalid" else error["input"]
    shown = isinstance(given, str | int | float | bool) and not secret
    value = f" (is {given!r})" if shown else ""
    return f"{key}: {rule}{value}" if key else rule


def _placed(error: ErrorDetails) -> tuple[str, tuple[int | str, ...]]:
    """The kind of the table in which an error is, where tables are of several kinds, and the place as the file has it."""
    place = error["loc"]
    if error["type"] == "union_tag_invalid":
        return "", (*place, "kind")
    if place[:1] in (("destinations",), ("archives",)) and len(place) > 2:
        return str(place[2]), (*place[:2], *place[3:])
    return "", place
