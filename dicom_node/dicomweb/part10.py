"""A DICOM file (PS3.10 7) that arrives block by block: its head, its data set, and what the head says."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO

# Preamble, prefix and the element with the length of the rest of the file meta information (0002,0000).
_BEGINNING = 144
_PREFIX = b"DICM\x02\x00\x00\x00UL\x04\x00"
_LONGEST_META = 65536
_LONG_VR = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN", b"SQ", b"UC", b"UR", b"UT", b"SV", b"UV")
_SOP_CLASS, _SOP_INSTANCE, _SYNTAX = 0x0002, 0x0003, 0x0010


class Part10Error(Exception):
    """The bytes are no DICOM file. The message holds nothing of them."""


@dataclass(frozen=True, slots=True)
class Part10:
    """A DICOM file: preamble and file meta information, the data set after it, and three UIDs of the former as they are."""

    head: bytes
    data: bytes
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class ArrivingFile:
    """Takes the blocks of a file. What it holds is the file's size, once."""

    def __init__(self) -> None:
        self._head = b""
        self._head_size = _BEGINNING
        self._data = BytesIO()

    def add(self, block: bytes) -> None:
        """The next bytes."""
        while block and len(self._head) < self._head_size:
            lack = self._head_size - len(self._head)
            self._head, block = self._head + block[:lack], block[lack:]
            if len(self._head) == _BEGINNING and self._head[128:140] == _PREFIX:
                self._head_size += min(int.from_bytes(self._head[140:144], "little"), _LONGEST_META)
        self._data.write(block)

    def everything(self) -> bytes:
        """All bytes so far."""
        return self._head + self._data.getvalue()

    def finish(self) -> Part10:
        """The file.

        Raises
        ------
        Part10Error
            If the bytes have no preamble or no file meta information with its group length, or if that does not end where it
            says.
        """
        data = self._data.getvalue()
        if len(self._head) < _BEGINNING or self._head[128:140] != _PREFIX:
            raise Part10Error("is no DICOM file: preamble, prefix or group length of the file meta is missing")
        if len(self._head) < _BEGINNING + int.from_bytes(self._head[140:144], "little") or data[:2] == b"\x02\x00":
            raise Part10Error("is no DICOM file: its file meta does not end where it says")
        elements = _elements(self._head[_BEGINNING:])
        uids = (
            elements.get(tag, b"").decode("ascii", "replace").strip(" \0")
            for tag in (_SOP_CLASS, _SOP_INSTANCE, _SYNTAX)
        )
        return Part10(self._head, data, *uids)


def _elements(meta: bytes) -> dict[int, bytes]:
    """The values of the file meta by element number: explicit VR, little endian (PS3.10 7.1)."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(meta):
        try:
            group, element, vr, size = struct.unpack_from("<HH2sH", meta, at)
            at += 8
            if vr in _LONG_VR:
                (size,) = struct.unpack_from("<I", meta, at)
                at += 4
        except struct.error:
            raise Part10Error("is no DICOM file: its file meta is cut off") from None
        if group != 2 or at + size > len(meta) or element in found:
            raise Part10Error("is no DICOM file: its file meta cannot be read")
        found[element] = meta[at : at + size]
        at += size
    return found
