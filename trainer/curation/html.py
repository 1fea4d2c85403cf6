"""Reports as a single HTML file with tables and embedded pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with lines of text, a table and pictures (PNG or SVG); each of these is optional.

    With ``text`` the cells are aligned as words; otherwise all columns but the first are aligned as numbers.
    """

    heading: str
    lines: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    text: bool = False
    pictures: Sequence[str] = field(default=())


def as_source(picture: bytes) -> str:
    """A PNG or SVG as the source of an ``img`` element."""
    kind = "png" if picture.startswith(b"\x89PNG") else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def render(title: str, sections: Sequence[Section], introduction: Sequence[str] = ()) -> str:
    """The whole page; all given text is escaped."""
    environment = Environment(loader=PackageLoader("trainer"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html").render(title=title, sections=sections, introduction=introduction)


def as_text(title: str, sections: Sequence[Section], introduction: Sequence[str] = ()) -> str:
    """The same as plain text for a terminal, without pictures."""
    lines = [title, "=" * len(title), *introduction, ""]
    for section in sections:
        lines += [section.heading, "-" * len(section.heading), *section.lines]
        if section.rows:
            lines += _columns([list(section.columns), *map(list, section.rows)], words=section.text)
        lines.append("")
    return "\n".join(lines)


def _columns(rows: Sequence[Sequence[str]], *, words: bool) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if words or k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
