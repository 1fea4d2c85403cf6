"""Where the top-level elements of a data set stand in its bytes, in the order of the bytes.

A data set in memory is sorted by tag and holds each tag once; whether the bytes are whole, and whether they say
something twice, can be seen only here.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

_UNDEFINED_LENGTH = 0xFFFFFFFF
# An element has at least this much before its value (PS3.5 7.1).
_HEAD = 8


@dataclass(frozen=True, slots=True)
class Place:
    """An element: its VR (None in implicit VR), the length that it states, and where its value starts."""

    tag: int
    vr: str | None
    length: int
    start: int


class Layout:
    """The places of the elements of one data set, noted while it is parsed.

    Parameters
    ----------
    data
        The encoded data set.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._places: list[Place] = []

    def note(self, tag: int, vr: str | None, length: int, start: int) -> None:
        """Note the element whose value starts at ``start``; a look at the first tag, before its value, is not one."""
        if start >= _HEAD:
            self._places.append(Place(tag, vr, length, start))

    def is_cut(self, stopped: int, parsed: Set[int]) -> bool:
        """Whether the bytes end inside an element.

        Parameters
        ----------
        stopped
            Where parsing stopped.
        parsed
            The tags that parsing gave: it leaves out a sequence that is not whole.
        """
        if not self._places:
            return True
        last = self._places[-1]
        if last.tag not in parsed:
            return True
        if last.length == _UNDEFINED_LENGTH:
            return False
        end = last.start + last.length
        return end > stopped or bool(self._data[end:stopped].strip(b"\0"))

    def contradicts_itself(self, stopped: int, *, implicit: bool) -> bool:
        """Whether an element occurs twice with different values; padding at the end makes no difference."""
        first: dict[int, bytes] = {}
        tags = [place.tag for place in self._places]
        if len(set(tags)) == len(tags):
            return False
        for index, place in enumerate(self._places):
            value = self._data[place.start : self._end(index, stopped, implicit=implicit)].rstrip(b" \0")
            if first.setdefault(place.tag, value) != value:
                return True
        return False

    def _end(self, index: int, stopped: int, *, implicit: bool) -> int:
        """Where the value of an element ends."""
        place = self._places[index]
        if place.length != _UNDEFINED_LENGTH:
            return place.start + place.length
        if index + 1 == len(self._places):
            return stopped
        following = self._places[index + 1]
        return following.start - (12 if not implicit and following.vr in EXPLICIT_VR_LENGTH_32 else _HEAD)
