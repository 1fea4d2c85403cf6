"""Messages that would cost far more than they weigh: bytes that inflate, empty items, references in masses, announced pixels.

Each follows from its number alone, as the broken ones do (`mutants`).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache

from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLSLossless, MRImageStorage

from dicom_node.commitment import messages
from tests.fakes import wire
from tests.fakes.datasets import encode
from tests.faults.mutants import COMMITMENT_CONTEXT, IMAGE, SYNTAXES, Mutant, command_of, template

_EMPTY_ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"
_SEQUENCE = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
_PIXELS = b"\xe0\x7f\x10\x00OW\0\0"
# What is announced: a million items in 10 kB, 200 MB of pixels in 200 kB, and references in 5 MB.
_ITEMS_DEFLATED, _ZEROS, _REFERENCES = 1_000_000, 200_000_000, 90_000
# Items that an ordinary object may have, and frames of a series that together would take more than a worker may decode.
_ITEMS, _ANNOUNCED, _IMAGES_PER_STUDY = 30_000, 4096, 12
_FIRST_NUMBER = 1_000_000_000


def costly(number: int) -> Mutant:
    """One of every kind in turn."""
    kind, build = _KINDS[number % len(_KINDS)]
    return build(kind, number // len(_KINDS), number)


def _deflated_items(kind: str, turn: int, number: int) -> Mutant:
    return _refused(kind, number, turn, _items_deflated())


def _deflated_zeros(kind: str, turn: int, number: int) -> Mutant:
    return _refused(kind, number, turn, _zeros_deflated())


def _many_items(kind: str, turn: int, number: int) -> Mutant:
    return _kept(kind, number, _with_items(), 800_000_000 + turn, ExplicitVRLittleEndian)


def _announced_pixels(kind: str, turn: int, number: int) -> Mutant:
    return _kept(kind, number, _announcing(), 700_000_000 + turn, JPEGLSLossless)


def _references(kind: str, turn: int, number: int) -> Mutant:
    command = command_of(0x0130, messages.SOP_CLASS, requested=True)
    command.ActionTypeID = messages.REQUEST
    data = _asking().replace(b"1.2.4.1000000000", f"1.2.4.{_FIRST_NUMBER + turn}".encode())
    encoded = wire.command_set(command, has_data=True)
    return Mutant(number, kind, b"".join(wire.framed(encoded, data, context=COMMITMENT_CONTEXT)))


_KINDS: tuple[tuple[str, Callable[[str, int, int], Mutant]], ...] = (
    ("a million empty items, deflated", _deflated_items),
    ("200 MB of zeros, deflated", _deflated_zeros),
    ("30,000 empty items", _many_items),
    ("12 images that announce 4096 x 4096 pixels", _announced_pixels),
    ("N-ACTION with 90,000 references", _references),
)
KINDS = frozenset(kind for kind, _ in _KINDS)


def _refused(kind: str, number: int, turn: int, data: bytes) -> Mutant:
    """A C-STORE of a deflated object that nobody keeps."""
    return Mutant(number, kind, _store(f"{IMAGE}.{turn}", data, DeflatedExplicitVRLittleEndian))


def _kept(kind: str, number: int, data: bytes, image: int, syntax: str) -> Mutant:
    """A C-STORE of a good object: it is found again if it was acknowledged. Each study has so many of them."""
    uid, study = str(_FIRST_NUMBER + image), str(_FIRST_NUMBER + image // _IMAGES_PER_STUDY)
    for old, new in (("1000000003", uid), ("1000000001", study), ("1000000002", study)):
        data = data.replace(old.encode(), new.encode())
    uid = IMAGE.replace("1000000003", uid)
    return Mutant(number, kind, _store(uid, data, syntax), uid=uid, data=data)


def _store(uid: str, data: bytes, syntax: str) -> bytes:
    return b"".join(wire.store(template(), data=data, uid=uid, context=2 * SYNTAXES.index(syntax) + 1))


@cache
def _items_deflated() -> bytes:
    return _deflated(_SEQUENCE + _EMPTY_ITEM * _ITEMS_DEFLATED + _SEQUENCE_END + encode(template()))


@cache
def _zeros_deflated() -> bytes:
    head = template()
    del head.PixelData
    return _deflated(encode(head) + _PIXELS + struct.pack("<I", _ZEROS) + bytes(_ZEROS))


@cache
def _with_items() -> bytes:
    dataset = template()
    dataset.ReferencedStudySequence = [Dataset() for _ in range(_ITEMS)]
    return encode(dataset)


@cache
def _announcing() -> bytes:
    dataset = template()
    dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    dataset.Rows = dataset.Columns = _ANNOUNCED
    return encode(dataset)


@cache
def _asking() -> bytes:
    """The data set of a request for commitment, in implicit VR."""
    items = b"".join(
        _element(0xFFFE, 0xE000, _uid(0x1150, str(MRImageStorage)) + _uid(0x1155, f"{IMAGE}.{n}"))
        for n in range(_REFERENCES)
    )
    return _uid(0x1195, "1.2.4.1000000000") + _element(0x0008, 0x1199, items)


def _uid(element: int, value: str) -> bytes:
    return _element(0x0008, element, value.encode() + bytes(len(value) % 2))


def _element(group: int, element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", group, element, len(value)) + value


def _deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(data) + packer.flush()
    return packed + bytes(len(packed) % 2)
