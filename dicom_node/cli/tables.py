"""Tables that fit the terminal: columns by their words, short UIDs, local times, and what is left out where room is short."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.uid import UID
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import JustifyMethod
from rich.table import Table

from dicom_node.health.wording import OF_DELIVERY, in_words
from dicom_node.system.log import printable

_LONGEST = 10_000
# A longer word, such as a path, may be broken.
_LONGEST_WORD = 24
# Blanks between two columns.
_GAP = 2
# Columns whose key is not what a person would call them.
_HEADINGS = {
    "study_uid": "study",
    "series_uid": "series",
    "sop_instance_uid": "object",
    "sop_class_uid": "class",
    "instances": "images",
    "last_received_at": "last image",
    "to_prove": "to prove",
    "to_send": "to send",
    "to_tell": "to tell",
    "not_sent": "not sent",
    "not_before": "waits until",
    "created_at": "made",
    "finished_at": "ended",
    "next_attempt_at": "next attempt",
    "last_told_at": "last told",
    "last_error": "last error",
    "last_message": "last answer",
    "paused_since": "paused since",
    "sent_at": "sent",
    "proof_at": "proven",
    "kept_at": "since",
    "opened_at": "opened",
    "last_at": "last",
    "at": "time",
    "id": "no.",
    "job": "job",
    "count": "times",
    "configured": "in settings",
    "waiting": "to send",
    "failed": "not sent",
    "model_digest": "model",
}
# States, and other codes that are read as words.
_CODES = ("state", "kind", "status", "role", "from", "to", "proof")
# Left out one after another, the first ones first, while a table is wider than the terminal.
_LESS_NEEDED = (
    "sha256",
    "configured",
    "generation",
    "worker",
    "created_at",
    "opened_at",
    "sop_class_uid",
    "attempts",
    "proven",
    "to_prove",
    "proof_at",
    "proof",
    "finished_at",
    "not_before",
    "sent",
    "how",
    "job",
)
_UID = re.compile(r"[0-9.]{20,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def shown(value: object) -> str:
    """A value as one line without control characters: what a peer or a file says must not steer the terminal."""
    return printable(value, _LONGEST)


def heading(key: str) -> str:
    """What a column is called."""
    return _HEADINGS.get(key, in_words(key))


def short(uid: str) -> str:
    """A UID by its beginning and end, as ``study`` accepts it too."""
    return f"{uid[:9]}…{uid[-4:]}"


def local_time(text: str) -> str:
    """An ISO 8601 time in the machine's own zone, to the second, with the zone's name."""
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def cell(key: str, value: object, *, wide: bool = False) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.2f}" if isinstance(value, float) else shown(value)
    if _TIME.fullmatch(text):
        return local_time(text)
    if key == "sop_class_uid" and not wide:
        return UID(text).name.removesuffix(" Storage")
    if not wide and (_UID.fullmatch(text) or _DIGEST.fullmatch(text)):
        return short(text)
    return in_words(text) if key in _CODES else text


def table_of(
    title: str, rows: Sequence[Mapping[str, Any]], width: int, *, wide: bool = False
) -> tuple[Table, list[str]]:
    """Rows with the same keys as a table of at most ``width`` characters, and the headings of what had no room in it.

    What says nothing in any row is left out first, and is not named. With ``wide`` nothing is left out.
    """
    columns = {key: _Column.of(key, rows, wide) for key in rows[0]}
    empty = [key for key, column in columns.items() if not column.says_something]
    for key in [*empty, *_LESS_NEEDED]:
        if wide or len(columns) == 1 or _least(columns) <= width:
            break
        columns.pop(key, None)
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.show_edge, table.pad_edge, table.padding = False, False, (0, _GAP - 1, 0, 0)
    for key, room in zip(columns, _shared(list(columns.values()), width), strict=True):
        justify: JustifyMethod = "right" if _is_number(rows, key) else "left"
        table.add_column(heading(key), overflow="fold", justify=justify, width=room)
    for number in range(len(rows)):
        table.add_row(*(column.cells[number] for column in columns.values()))
    return table, [heading(key) for key in rows[0] if key not in columns and key not in empty]


@dataclass(frozen=True, slots=True)
class _Column:
    """The cells of a column, its least width without broken words, and its width on single lines."""

    cells: list[str]
    least: int
    natural: int
    says_something: bool

    @staticmethod
    def of(key: str, rows: Sequence[Mapping[str, Any]], wide: bool) -> _Column:
        cells = [_delivered(row, key) or cell(key, row[key], wide=wide) for row in rows]
        words = [word for text in (heading(key), *cells) for word in text.split()]
        least = max(map(cell_len, words), default=1)
        natural = max(map(cell_len, (heading(key), *cells)))
        says = any(row[key] not in (None, "", 0) for row in rows)
        return _Column(cells, min(least, _LONGEST_WORD), natural, says)


def _least(columns: Mapping[str, _Column]) -> int:
    return sum(column.least for column in columns.values()) + _GAP * len(columns)


def _shared(columns: Sequence[_Column], width: int) -> list[int]:
    """The width of each column: what is left over goes to the narrow ones first, as they need least."""
    room = [column.least for column in columns]
    left = max(0, width - sum(room) - _GAP * len(columns))
    by_need = sorted(range(len(columns)), key=lambda n: columns[n].natural - columns[n].least)
    for place, n in enumerate(by_need):
        more = min(columns[n].natural - columns[n].least, left // (len(by_need) - place))
        room[n] += more
        left -= more
    return room


def _delivered(row: Mapping[str, Any], key: str) -> str:
    """The state of a delivery, which is called as on the status page."""
    return OF_DELIVERY.get(str(row[key]), "") if key == "state" and "destination" in row else ""


def _is_number(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return all(isinstance(row[key], int | float | None) and not isinstance(row[key], bool) for row in rows)
