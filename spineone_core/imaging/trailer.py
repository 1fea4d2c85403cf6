"""Elements that stand after the pixel data, where some archives append what they correct.

That breaks the order of tags (PS3.5 7.1), but nothing is missing. A reader that stops at the pixel data would not see them.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

_UNDEFINED_LENGTH = 0xFFFFFFFF
_LONG_VR = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN", b"SQ", b"UC", b"UR", b"UT", b"SV", b"UV"})
_ITEM, _DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
# Whatever corrects a header is short; more is no header.
_LONGEST = 2**20


def trailing_elements(stream: BinaryIO, *, implicit: bool, little: bool) -> Dataset:
    """The elements after the pixel data element at whose first byte ``stream`` stands; empty if there are none.

    Bytes that are no whole elements (padding, rubbish) give none. The position of the stream afterwards is anywhere.
    """
    if not _skip_pixels(stream, implicit=implicit, little=little):
        return Dataset()
    start = stream.tell()
    end = stream.seek(0, os.SEEK_END)
    if not 8 <= end - start <= _LONGEST:
        return Dataset()
    stream.seek(start)
    if not stream.read(end - start).strip(b"\0"):
        return Dataset()
    stream.seek(start)
    try:
        return _whole(read_dataset(stream, implicit, little), end)
    except Exception:  # rubbish fails in many ways inside the parser
        return Dataset()


def _whole(found: Dataset, end: int) -> Dataset:
    """The elements if their bytes reach to the end exactly, otherwise none."""
    raw = [element for tag in list(found.keys()) if (element := found.get_item(tag)) is not None]
    if any(element.VR is not None and not element.VR.isalpha() for element in raw):
        return Dataset()
    reached = max((e.value_tell + e.length for e in raw if hasattr(e, "length")), default=0)
    return found if reached in (0, end) else Dataset()


def _skip_pixels(stream: BinaryIO, *, implicit: bool, little: bool) -> bool:
    """Move the stream to the end of the pixel data element; False if it has none."""
    order = "little" if little else "big"
    head = stream.read(8)
    if len(head) < 8:
        return False
    if not implicit and head[4:6] in _LONG_VR:
        length = int.from_bytes(stream.read(4), order)  # type: ignore[arg-type]
    else:
        length = int.from_bytes(head[4:8] if implicit else head[6:8], order)  # type: ignore[arg-type]
    if length != _UNDEFINED_LENGTH:
        stream.seek(length, os.SEEK_CUR)
        return True
    return _skip_fragments(stream)


def _skip_fragments(stream: BinaryIO) -> bool:
    """Move the stream to the end of encapsulated pixel data (PS3.5 A.4), which are always little endian."""
    while len(head := stream.read(8)) == 8:
        tag = (int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little"))
        if tag == _DELIMITER:
            return True
        if tag != _ITEM:
            return False
        stream.seek(int.from_bytes(head[4:], "little"), os.SEEK_CUR)
    return False
