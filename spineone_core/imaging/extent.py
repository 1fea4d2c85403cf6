"""What parsing an encoded data set would make, found out by walking over its tags and lengths without keeping anything.

A parser makes about half a kilobyte of an element that takes eight bytes, and more of an item. So a few megabytes, or a few
kilobytes that were deflated, can become gigabytes. `measure` follows pydicom step by step and stops at a limit; only what it
has passed is given to the parser.
"""

from __future__ import annotations

import mmap
import time
from dataclasses import dataclass, field
from struct import Struct

from pydicom.datadict import DicomDictionary

# An element counts as one part, an item as three, a value of a list of values as one. A part takes at most `PART_BYTES` of
# memory in pydicom 3. 20,000 frames of 100 elements in 25 items are 3.5 million parts.
PART_BYTES = 700
MOST_PARTS = 4_000_000
_ITEM_PARTS = 3
# At the top level; real objects have some dozens.
_MOST_SEQUENCES = 10_000
# Real nesting (structured reports) has some twenty levels. pydicom calls itself three times for each.
MOST_DEPTH = 100
# Processor time of the thread that walks (seconds), and after how many parts it is looked at.
MOST_SECONDS = 20.0
_LOOK_EVERY = 20_000
# All defined terms of Specific Character Set (PS3.3 C.12.1.1.2) together are shorter. pydicom decodes this value at once.
_LONGEST_CHARACTER_SET = 512
# The longest value of these in explicit VR (PS3.5 7.1.2); in implicit VR nothing else limits it.
_LONGEST_SHORT_TEXT = 65534
# Values of elements that are longer than this are counted.
_LONG_VALUE = 1024

_CHARACTER_SET = 0x00080005
_PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_ITEM_END, _SEQUENCE_END = 0xFFFEE00D, 0xFFFEE0DD
_ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_SEQUENCE_END_TAGS = {True: b"\xfe\xff\xdd\xe0", False: b"\xff\xfe\xe0\xdd"}
_UNDEFINED = 0xFFFFFFFF
_SHORT_TEXT = frozenset(("AE", "AS", "CS", "DA", "DT", "LO", "PN", "SH", "TM", "UI"))
_TEXT = _SHORT_TEXT | {"DS", "IS", "UC"}
_NUMBER_BYTES = {"AT": 4, "FD": 8, "FL": 4, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}
_SEQUENCE_VRS = (b"SQ", b"UN")
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"))
_SHORT_VRS = frozenset(vr.encode() for vr in _SHORT_TEXT | {"DS", "IS", "LT", "ST"} | set(_NUMBER_BYTES)) - _LONG_VRS

# By byte order (little or not): the beginning of an element in explicit and in implicit VR, and a long length.
_READERS = {
    little: tuple(Struct(order + form).unpack_from for form in ("HH2sH", "HHL", "L"))
    for little, order in ((True, "<"), (False, ">"))
}

Encoded = bytes | mmap.mmap


class CostlyError(ValueError):
    """Parsing would make too much; the message says of what, and quotes no value."""


@dataclass(slots=True)
class Extent:
    """What a data set is made of, as far as it was walked over.

    ``end`` is where the walk ended, in bytes; ``sequences`` holds where each sequence at the top level begins (with its tag)
    and ends.
    """

    parts: int = 0
    depth: int = 0
    end: int = 0
    sequences: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Level:
    """A data set or sequence that is being walked over.

    ``end`` is where its length ends (None: undefined), ``limit`` where the bytes end that it is read from. A value of defined
    length is parsed only later, from bytes of its own (``is_apart``); whatever is wrong inside, reading goes on behind it.
    """

    is_sequence: bool
    end: int | None
    limit: int
    implicit: bool
    is_apart: bool = False
    start: int = -1


def measure(
    data: Encoded, *, implicit: bool, little: bool, start: int = 0, pixels: bool = False, most_parts: int = MOST_PARTS
) -> Extent:
    """Walk over an encoded data set.

    Parameters
    ----------
    implicit, little
        Its encoding, as the transfer syntax says; where the bytes say otherwise they are followed, as pydicom does.
    start
        Where it begins, in bytes.
    pixels
        Go on behind the pixel data too.
    most_parts
        The limit on parts: elements, items (three each) and the values of long lists.

    Raises
    ------
    CostlyError
        If there are more parts or levels than allowed, or a text or character set is longer than any can be. What is merely
        broken is left for the parser to find.
    """
    return _Walk(data, little, most_parts, pixels=pixels).run(start, implicit=implicit)


def without_sequences(data: Encoded, extent: Extent) -> bytes:
    """A data set up to where it was walked over, without its sequences.

    pydicom parses those of undefined length at once, whether anybody asks for them or not.
    """
    pieces, at = [], 0
    for begin, end in extent.sequences:
        pieces.append(data[at:begin])
        at = end
    return b"".join((*pieces, data[at : extent.end]))


class _Walk:
    def __init__(self, data: Encoded, little: bool, most_parts: int, *, pixels: bool) -> None:
        self._data = data
        self._little = little
        self._pixels = pixels
        self._most = most_parts
        self._explicit, self._implicit, self._long = _READERS[little]
        self._extent = Extent()
        self._next_look = min(_LOOK_EVERY, most_parts + 1)
        self._deadline = time.thread_time() + MOST_SECONDS

    def run(self, at: int, *, implicit: bool) -> Extent:
        levels = [_Level(False, None, len(self._data), self._is_implicit(at, len(self._data), implicit, is_item=False))]
        while levels:
            reached = self._items(levels, at) if levels[-1].is_sequence else self._elements(levels, at)
            at = reached if reached >= 0 else self._resume(levels)
        self._extent.end = at if at >= 0 else len(self._data)
        return self._extent

    def _resume(self, levels: list[_Level]) -> int:
        """Where to go on after something broken: behind the innermost value that is read apart; -1 if there is none."""
        while levels:
            level = levels.pop()
            if level.is_apart:
                self._note(levels, level, level.limit)
                return level.limit
        return -1

    def _elements(self, levels: list[_Level], at: int) -> int:
        """Walk over elements until the data set ends or a sequence begins; returns where to go on, -1 if it is broken.

        One loop in one function, with names of its own for everything: this runs for each element that is received.
        """
        level, data, extent = levels[-1], self._data, self._extent
        limit, end, implicit = level.limit, level.limit if level.end is None else level.end, level.implicit
        stops_at_pixels = len(levels) == 1 and not self._pixels
        read, last = self._implicit if implicit else self._explicit, min(end, limit - 7)
        parts, next_look = extent.parts, self._next_look
        vr: bytes | None = None
        while at < last:
            begin = at
            at += 8
            parts += 1
            if parts >= next_look:
                extent.parts = parts
                self._look()
                next_look = self._next_look
            if implicit:
                group, element, length = read(data, begin)
            else:
                group, element, vr, length = read(data, begin)
                if vr in _SHORT_VRS:
                    if length <= _LONG_VALUE and (group != 8 or element != 5):
                        at += length
                        continue
                elif vr in _LONG_VRS:
                    if at + 4 > limit:
                        return -1
                    (length,) = self._long(data, at)
                    at += 4
                elif not b"AA" <= vr <= b"ZZ":
                    vr = None
                    group, element, length = self._implicit(data, begin)
            tag = group << 16 | element
            if tag == _ITEM_END or (stops_at_pixels and tag in _PIXELS):
                extent.parts = parts - 1
                levels.pop()
                return at if tag == _ITEM_END else begin
            if length == _UNDEFINED:
                if not self._is_sequence(tag, vr, at, limit):
                    at = self._delimited(at, limit)
                    continue
                extent.parts = parts
                self._enter(levels, _Level(True, None, limit, implicit, start=begin))
                return at
            if length > _LONG_VALUE or tag == _CHARACTER_SET:
                extent.parts = parts
                self._count_values(tag, vr, at, min(at + length, limit))
                parts, next_look = extent.parts, self._next_look
            if length >= 8 and (vr is None or vr in _SEQUENCE_VRS) and self._may_hold_items(tag, vr, at):
                extent.parts = parts
                apart = min(at + length, limit)
                self._enter(levels, _Level(True, apart, apart, implicit, is_apart=True, start=begin))
                return at
            at += length
        extent.parts = parts
        levels.pop()
        return min(at, limit) if at >= end else limit

    def _items(self, levels: list[_Level], at: int) -> int:
        """Walk into the next item of a sequence that is not empty, or out of the sequence."""
        level = levels[-1]
        end, limit, extent = level.limit if level.end is None else level.end, level.limit, self._extent
        while at < end or level.end is None:
            if at + 8 > limit:
                return -1
            group, element, length = self._implicit(self._data, at)
            at += 8
            if group << 16 | element == _SEQUENCE_END:
                break
            extent.parts += _ITEM_PARTS
            if extent.parts >= self._next_look:
                self._look()
            if length:
                item_end = None if length == _UNDEFINED else at + length
                implicit = self._is_implicit(at, limit, level.implicit, is_item=True)
                self._enter(levels, _Level(False, item_end, limit, implicit))
                return at
        levels.pop()
        at = limit if level.is_apart else at
        self._note(levels, level, at)
        return at

    def _note(self, levels: list[_Level], sequence: _Level, end: int) -> None:
        """Note a sequence that was left, if it is at the top level."""
        if len(levels) == 1:
            self._extent.sequences.append((sequence.start, end))
            if len(self._extent.sequences) > _MOST_SEQUENCES:
                raise CostlyError(f"has more than {_MOST_SEQUENCES} sequences")

    def _enter(self, levels: list[_Level], level: _Level) -> None:
        levels.append(level)
        self._extent.depth = max(self._extent.depth, len(levels) // 2)
        if len(levels) // 2 > MOST_DEPTH:
            raise CostlyError(f"sequences are nested more than {MOST_DEPTH} deep")

    def _look(self) -> None:
        """Compare what there is with the limits."""
        if self._extent.parts > self._most:
            raise CostlyError(f"has more than {self._most} elements, items and values")
        if time.thread_time() > self._deadline:
            raise CostlyError("takes too long to walk over")
        self._next_look = min(self._extent.parts + _LOOK_EVERY, self._most + 1)

    def _is_implicit(self, at: int, limit: int, assumed: bool, *, is_item: bool) -> bool:
        """Whether the elements from here on are in implicit VR: the first one shows it."""
        vr = self._data[at + 4 : min(at + 6, limit)]
        if (is_item and assumed) or len(vr) < 2:
            return assumed
        return not (0x40 < vr[0] < 0x5B and 0x40 < vr[1] < 0x5B)

    def _is_sequence(self, tag: int, vr: bytes | None, at: int, limit: int) -> bool:
        """Whether a value of undefined length is a sequence; else it is one value up to a delimiter."""
        if vr is not None:
            return vr in _SEQUENCE_VRS
        known = DicomDictionary.get(tag)
        return (
            known[0] == "SQ" if known else at + 4 <= limit and self._data[at : at + 4] == _ITEM_TAGS[not self._little]
        )

    def _may_hold_items(self, tag: int, vr: bytes | None, at: int) -> bool:
        if vr == b"SQ" or self._data[at : at + 4] in _ITEM_TAGS:
            return True
        known = DicomDictionary.get(tag)
        return known is not None and known[0] == "SQ"

    def _delimited(self, at: int, limit: int) -> int:
        found = self._data.find(_SEQUENCE_END_TAGS[self._little], at, limit)
        return limit if found < 0 else min(found + 8, limit)

    def _count_values(self, tag: int, declared: bytes | None, at: int, end: int) -> None:
        """Count the values of a long element, and refuse texts that are longer than they can be."""
        if tag == _CHARACTER_SET:
            if end - at > _LONGEST_CHARACTER_SET:
                raise CostlyError("the list of character sets is longer than all that there are")
            # Each is looked up, again for each item that has one.
            self._extent.parts += end - at
            return
        vr = declared.decode("latin-1") if declared not in (None, b"UN") else (DicomDictionary.get(tag) or ("UN",))[0]
        if vr in _SHORT_TEXT and end - at > _LONGEST_SHORT_TEXT:
            raise CostlyError(f"a text ({vr}) is longer than {_LONGEST_SHORT_TEXT} bytes")
        if vr in _TEXT:
            for block in range(at, end, 65536):
                self._extent.parts += self._data[block : min(block + 65536, end)].count(b"\\")
                self._look()
        elif vr in _NUMBER_BYTES:
            self._extent.parts += (end - at) // _NUMBER_BYTES[vr]
            self._look()
