"""JSON as RFC 8259 has it: numbers that JSON does not have become null, so that every reader takes what is written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any


def without_nan(value: Any) -> Any:
    """The same with None in place of NaN and infinity, and lists in place of tuples."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def dumps(
    value: Any, *, indent: int | None = None, ensure_ascii: bool = True, default: Callable[[Any], Any] | None = None
) -> str:
    """The value as JSON text; what ``default`` makes of other objects must be finite."""
    return json.dumps(without_nan(value), indent=indent, ensure_ascii=ensure_ascii, default=default, allow_nan=False)
