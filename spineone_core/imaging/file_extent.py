"""What parsing a DICOM file would make, before pydicom sees it (`extent`)."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.values import converters

from spineone_core.imaging.extent import MOST_PARTS, CostlyError, Encoded, measure, without_sequences
from spineone_core.imaging.inflation import inflate, most_parts_of

# A file meta group is a few hundred bytes (PS3.10 7.1).
_LONGEST_META = 2**20
_TRANSFER_SYNTAX = (0x0002, 0x0010)
_LONG_VR = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN", b"SQ", b"UC", b"UR", b"UT", b"SV", b"UV")
_EXPLICIT, _LONG = Struct("<HH2sH").unpack_from, Struct("<L").unpack_from


def check_file(path: Path) -> None:
    """Check what parsing a file would make; whether it is DICOM at all is for the parser to find.

    Raises
    ------
    CostlyError
        If it is too much (`extent.measure`), or a deflated file grows out of proportion.
    ValueError
        If a deflated file is corrupt, or a file meta group.
    OSError
        If the file cannot be read.
    """
    with _data_set(path) as (data, start, implicit, little, most_parts):
        measure(data, implicit=implicit, little=little, start=start, pixels=True, most_parts=most_parts)


def read_flat(path: Path) -> Dataset:
    """The header of a file without its sequences: cheap, however large those are.

    Raises
    ------
    CostlyError, ValueError, OSError
        As `check_file`; and what pydicom raises on broken bytes.
    """
    with _data_set(path) as (data, start, implicit, little, most_parts):
        extent = measure(data, implicit=implicit, little=little, start=start, most_parts=most_parts)
        return read_dataset(BytesIO(without_sequences(data, extent)[start:]), implicit, little)


@contextmanager
def _data_set(path: Path) -> Iterator[tuple[Encoded, int, bool, bool, int]]:
    """The bytes of a file, where its data set begins in them, implicit and little, and the most parts that it may have."""
    with path.open("rb") as file:
        if not file.seek(0, 2):
            yield b"", 0, True, True, MOST_PARTS
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start, syntax = _opening(data)
            if syntax == DeflatedExplicitVRLittleEndian:
                whole, most = _inflated(file, start), most_parts_of(len(data) - start)
                yield whole, 0, False, True, min(most, MOST_PARTS)
            else:
                yield data, start, *_encoding(data, start, syntax), MOST_PARTS


def _inflated(file: BinaryIO, start: int) -> bytes:
    file.seek(start)
    return inflate(file.read())


def _opening(data: mmap.mmap) -> tuple[int, str]:
    """Where the data set begins behind preamble and file meta group, and the transfer syntax, empty if none is given."""
    at, syntax = (132 if data[128:132] == b"DICM" else 0), ""
    begin = at
    while at + 12 <= len(data):
        group, element, vr, length = _EXPLICIT(data, at)
        if group != 2:
            break
        head = 8
        if vr.decode("latin-1") not in converters:
            raise ValueError("the file meta group is broken")
        if vr in _LONG_VR:
            head, (length,) = 12, _LONG(data, at + 8)
        if at + head + length - begin > _LONGEST_META:
            raise CostlyError("the file meta group is longer than any can be")
        if (group, element) == _TRANSFER_SYNTAX:
            syntax = data[at + head : at + head + length].decode("latin-1").strip(" \0")
        at += head + length
    if data[at : at + 2] == b"\0\0":
        raise ValueError("begins with a command set, which no file has")
    return at, syntax


def _encoding(data: mmap.mmap, start: int, syntax: str) -> tuple[bool, bool]:
    """Whether a data set is in implicit VR and little endian: from its transfer syntax, or else as pydicom guesses."""
    if syntax:
        return syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    explicit = data[start + 4 : start + 6].decode("latin-1") in converters
    group = int.from_bytes(data[start : start + 2], "little")
    return not explicit, not (explicit and group >= 1024)
