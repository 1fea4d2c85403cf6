"""Data sets as other systems encode them: whole and readable, but not as PS3.5 7.1 demands."""

from __future__ import annotations

from pydicom.dataset import Dataset

from tests.fakes.datasets import encode

# A vendor's private block in the wrong order, after everything else.
PRIVATE = (
    b"\x43\x00\x10\x00LO\x0c\x00GEMS_PARM_01" + b"\x43\x00\x53\x10LO\x02\x00A " + b"\x43\x00\x06\x10SS\x02\x00\x01\x00"
)
PIXELS = b"\xe0\x7f\x10\x00OW"
NAME, PATIENT_ID = b"\x10\x00\x10\x00PN", b"\x10\x00\x20\x00LO"


def element(data: bytes, tag_and_vr: bytes) -> tuple[bytes, bytes]:
    """One element of a short explicit VR, and the data without it."""
    start = data.index(tag_and_vr)
    end = start + 8 + int.from_bytes(data[start + 6 : start + 8], "little")
    return data[start:end], data[:start] + data[end:]


def before_pixels(data: bytes, added: bytes) -> bytes:
    """The data with something put directly before the pixel data."""
    at = data.index(PIXELS)
    return data[:at] + added + data[at:]


def disordered(dataset: Dataset, kind: str) -> bytes:
    """A data set whose elements are not in ascending order.

    Kinds: ``tail`` (the name stands before the pixel data), ``end`` (behind them), ``private`` (a private block as above),
    ``swap`` (name and Patient ID), ``twice`` (the name twice), ``sequence first`` (a sequence of undefined length at the
    start), ``sequence last`` (one before the pixel data).
    """
    data = encode(dataset)
    name, rest = element(data, NAME)
    number, without_both = element(rest, PATIENT_ID)
    items = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    made = {
        "tail": before_pixels(rest, name),
        "end": rest + name,
        "private": before_pixels(data, PRIVATE),
        "swap": without_both.replace(b"\x20\x00\x0d\x00UI", number + name + b"\x20\x00\x0d\x00UI"),
        "twice": before_pixels(data, name),
        "sequence first": items + data,
        "sequence last": before_pixels(data, items),
    }
    return made[kind]
