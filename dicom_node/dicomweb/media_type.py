"""The value of a Content-Type header: a media type and its parameters (RFC 9110 8.3.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_NAME = re.compile(rf"[ \t]*({_TOKEN}/{_TOKEN})[ \t]*")
# A value without quotes may hold a slash: many write type=application/dicom, which RFC 2387 allows in quotes only.
_PARAMETER = re.compile(rf';[ \t]*(?:({_TOKEN})=(?:"((?:[^"\\]|\\.)*)"|([^\s;"\\]+))[ \t]*)?')
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type in small letters, such as ``multipart/related``, and its parameters by name in small letters."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def media_type_of(value: str) -> MediaType | None:
    """What a Content-Type header says; None if it says nothing that has one meaning (a parameter twice, for instance)."""
    match = _NAME.match(value)
    if match is None:
        return None
    parameters: dict[str, str] = {}
    at = match.end()
    while at < len(value):
        found = _PARAMETER.match(value, at)
        if found is None:
            return None
        name, quoted, plain = found.groups()
        if name is not None:
            if name.lower() in parameters:
                return None
            parameters[name.lower()] = plain if quoted is None else _ESCAPE.sub(r"\1", quoted)
        at = found.end()
    return MediaType(match[1].lower(), parameters)
