"""The items of a sequence at the top level of an encoded data set, one at a time, with their values as bytes.

A request may name 100,000 instances. pydicom would make a quarter of a gigabyte of them, and take seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO
from struct import Struct

from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_sequence_item
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.dicom.headers import read_header
from spineone_core.imaging.extent import measure

_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM_END, _SEQUENCE_END = 0xFFFEE00D, 0xFFFEE0DD
_FEW_BYTES = frozenset((b"UI", b"US", b"LO", b"SH", b"CS", b"AE"))

# The values of an item by tag.
Item = Mapping[int, bytes]


class ItemReader:
    """Reads a data set whose sequences may be long.

    Parameters
    ----------
    data
        The data set as it came in a message.
    transfer_syntax_uid
        Its encoding; not a deflated one, which no message of this kind has.

    Raises
    ------
    HeaderError
        As `read_header`.
    """

    def __init__(self, data: bytes, transfer_syntax_uid: str) -> None:
        self._data = data
        self._little = transfer_syntax_uid != ExplicitVRBigEndian
        self._unpack = Struct("<HHL" if self._little else ">HHL").unpack_from
        self.dataset = read_header(data, transfer_syntax_uid).dataset
        self._implicit = bool(self.dataset.original_encoding[0])
        stated = transfer_syntax_uid == ImplicitVRLittleEndian
        self._sequences = {
            self._tag_at(begin): (begin, end)
            for begin, end in measure(data, implicit=stated, little=self._little).sequences
        }

    def number(self, value: bytes) -> int | None:
        """The value of a US element; None if it is none."""
        return int.from_bytes(value, "little" if self._little else "big") if len(value) == 2 else None

    def items(self, keyword: str) -> Iterator[Item]:
        """The items of a sequence; none if it is missing or no sequence. Broken items raise what pydicom raises."""
        tag = Tag(keyword)
        if tag in self._sequences:
            begin, end = self._sequences[tag]
            yield from self._read(self._data[begin + (8 if self._implicit else 12) : end])

    def _read(self, value: bytes) -> Iterator[Item]:
        at = 0
        while at + 8 <= len(value):
            group, element, length = self._unpack(value, at)
            if group << 16 | element == _SEQUENCE_END:
                return
            end = len(value) if length == _UNDEFINED_LENGTH else at + 8 + length
            item, after = self._simple(value, at + 8, end, has_end=length != _UNDEFINED_LENGTH)
            if item is None:
                item, after = self._parsed(value, at)
            yield item
            at = after

    def _simple(self, value: bytes, at: int, end: int, *, has_end: bool) -> tuple[Item | None, int]:
        """The elements of an item and where it ends; None if there are others than those of a reference."""
        item: dict[int, bytes] = {}
        while at < end and at + 8 <= len(value):
            group, element, length = self._unpack(value, at)
            if group << 16 | element == _ITEM_END:
                return item, at + 8
            if not self._implicit:
                if value[at + 4 : at + 6] not in _FEW_BYTES:
                    return None, at
                length = int.from_bytes(value[at + 6 : at + 8], "little" if self._little else "big")
            if length == _UNDEFINED_LENGTH:
                return None, at
            item[group << 16 | element] = value[at + 8 : at + 8 + length]
            at += 8 + length
        return (item, at) if has_end and at == end else (None, at)

    def _parsed(self, value: bytes, at: int) -> tuple[Item, int]:
        """The item in pydicom's reading, and where it ends."""
        stream = BytesIO(value)
        stream.seek(at)
        dataset = read_sequence_item(stream, self._implicit, self._little, "iso8859")
        elements = [] if dataset is None else dataset.elements()
        found = {int(e.tag): e.value for e in elements if isinstance(e, RawDataElement) and isinstance(e.value, bytes)}
        return found, stream.tell()

    def _tag_at(self, at: int) -> int:
        group, element, _ = self._unpack(self._data, at)
        return int(group << 16 | element)
