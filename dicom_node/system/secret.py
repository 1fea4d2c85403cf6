"""Passwords, keys and tokens: they stand in a file or in an environment variable, never in the settings."""

from __future__ import annotations

import os
from pathlib import Path


class SecretError(Exception):
    """There is no secret where the settings say. The message names the place, never what is in it."""


def read_secret(file: Path | None, variable: str) -> str:
    """A secret from a file, or from an environment variable if there is no file; without the line end that editors add.

    Raises
    ------
    SecretError
        If there is none.
    """
    try:
        value = file.read_text(encoding="utf-8").strip("\r\n") if file else os.environ.get(variable, "")
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"{file} cannot be read ({type(error).__name__})") from None
    if not value:
        raise SecretError(f"{file} is empty" if file else f"the environment variable {variable} is not set")
    return value
