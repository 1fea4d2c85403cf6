"""Reading what the index needs from a data set's bytes, without decoding pixels and without trusting the sender."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.dicom.layout import Layout
from spineone_core.imaging.extent import MOST_PARTS, CostlyError, measure, without_sequences
from spineone_core.imaging.inflation import InflationError, inflate, most_parts_of
from spineone_core.imaging.trailer import trailing_elements

# Components may have leading zeros: real devices write them.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_PIXEL_DATA = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_LONG_VR = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN", b"SQ", b"UC", b"UR", b"UT", b"SV", b"UV")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_SEQUENCE_END = b"\xfe\xff\xdd\xe0"
# More parts than this (an element is one, an item three) are not parsed for the sake of a few values at the top level.
_FEW_PARTS = 20_000

# Header values that say how to read the bytes of the pixel data.
PIXEL_KEYWORDS = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID")


# Called with the bytes of memory that a step needs before it is done; raises `NoRoomError` if they are not available.
Hold = Callable[[int], None]


class HeaderError(Exception):
    """The bytes are not a usable data set; the message says why and contains no value from it."""


class NoRoomError(Exception):
    """The data set may be good, but there is no memory for it now."""


def hold_nothing(size: int) -> None:
    """A `Hold` without a limit."""


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """A data set without its pixels, and its bytes from the pixel data onwards (empty if it has none)."""

    dataset: Dataset
    pixel_bytes: bytes


def is_valid_uid(value: object) -> bool:
    """Whether a value has the form and length of a UID (PS3.5 section 9.1; leading zeros are tolerated)."""
    text = str(value)
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def shown_uid(value: object) -> str:
    """A UID for logs and alerts; what has not the form of one may be a name and is not repeated."""
    return str(value) if is_valid_uid(value) else "(malformed UID)"


def read_header(data: bytes, transfer_syntax_uid: str, *, hold: Hold = hold_nothing) -> InstanceHeader:
    """Read an encoded data set (without file meta) up to its pixel data, and check that it is complete.

    What parsing would make is found out first (`extent.measure`). If that is much, the header lacks its sequences.

    Parameters
    ----------
    hold
        Is asked for the memory that more copies of the data need.

    Raises
    ------
    HeaderError
        If it is truncated, is nested too deeply, inflates too much, has too many elements, cannot be parsed, or has an
        element at its top level twice with different values.
    NoRoomError
        From ``hold``.
    """
    try:
        return _parse(_bounded(data, transfer_syntax_uid, hold), transfer_syntax_uid)
    except (HeaderError, NoRoomError):
        raise
    except RecursionError:
        raise HeaderError("sequences are nested too deeply") from None
    except (CostlyError, InflationError) as error:
        raise HeaderError(str(error)) from None
    except Exception as error:  # hostile bytes fail in many ways inside the parser
        raise HeaderError(f"cannot be parsed ({type(error).__name__})") from None


def _bounded(data: bytes, transfer_syntax_uid: str, hold: Hold) -> bytes:
    """The bytes to parse: inflated, and without large sequences."""
    most_parts = MOST_PARTS
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        most_parts = min(MOST_PARTS, most_parts_of(len(data)))
        data = inflate(data, hold=hold)
    implicit, little = transfer_syntax_uid == ImplicitVRLittleEndian, transfer_syntax_uid != ExplicitVRBigEndian
    extent = measure(data, implicit=implicit, little=little, most_parts=most_parts)
    if extent.parts <= _FEW_PARTS or not extent.sequences:
        return data
    hold(len(data))
    return without_sequences(data, extent) + data[extent.end :]


def _parse(data: bytes, transfer_syntax_uid: str) -> InstanceHeader:
    implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    little = transfer_syntax_uid != ExplicitVRBigEndian
    stream = BytesIO(data)
    layout = Layout(data)

    def stop(tag: int, vr: str | None, length: int) -> bool:
        if int(tag) in _PIXEL_DATA:
            return True
        layout.note(int(tag), vr, length, stream.tell())
        return False

    dataset = read_dataset(stream, implicit, little, stop_when=stop)
    stopped = stream.tell()
    implicit = bool(dataset.original_encoding[0])
    _check_elements(layout, dataset, stopped, implicit=implicit)
    pixel_bytes = data[stopped:]
    if pixel_bytes:
        _check_pixel_element(pixel_bytes, implicit=implicit, little=little)
        _add_trailing(dataset, stream, implicit=implicit, little=little)
    # Every value is converted once, here, so that a bad one is found before the object is accepted.
    for keyword in (*_IDENTITY, *PIXEL_KEYWORDS):
        _ = dataset.get(keyword)
    return InstanceHeader(dataset, pixel_bytes)


def _check_elements(layout: Layout, dataset: Dataset, stopped: int, *, implicit: bool) -> None:
    """Check that the header is complete and says nothing twice. Its order does not matter (PS3.5 7.1 demands one)."""
    if not len(dataset):
        raise HeaderError("is empty")
    if layout.is_cut(stopped, set(map(int, dataset.keys()))):
        raise HeaderError("is truncated in its header")
    if layout.contradicts_itself(stopped, implicit=implicit):
        raise HeaderError("has an element twice, with different values")


def _add_trailing(dataset: Dataset, stream: BytesIO, *, implicit: bool, little: bool) -> None:
    """Add what stands after the pixel data, at which the stream stands; it must not contradict the header."""
    trailing = trailing_elements(stream, implicit=implicit, little=little)
    for tag in list(trailing.keys()):
        if tag in dataset and dataset[tag].value != trailing[tag].value:
            raise HeaderError("has an element twice, with different values")
    dataset.update(trailing)


def _check_pixel_element(data: bytes, *, implicit: bool, little: bool) -> None:
    order = "little" if little else "big"
    start, size = (8, 4) if implicit or data[4:6] not in _LONG_VR else (12, 4)
    length = int.from_bytes(data[start - size : start], order)  # type: ignore[arg-type]
    if length == _UNDEFINED_LENGTH:
        if _SEQUENCE_END not in data[start:]:
            raise HeaderError("is truncated in its pixel data")
    elif start + length > len(data):
        raise HeaderError(f"is truncated in its pixel data: {len(data) - start} bytes of {length}")
