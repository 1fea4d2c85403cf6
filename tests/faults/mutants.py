"""Broken messages for the listener. Each follows from the seed and its number alone, so that any of them can be had again."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)
from pynetdicom.sop_class import Verification

from dicom_node.commitment import messages
from dicom_node.commitment.messages import CommitmentAnswer, CommitmentRequest, Reference
from tests.fakes import wire
from tests.fakes.datasets import encode, mr_image, with_meta

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
)
# The presentation contexts of a hostile peer: images in every syntax, C-ECHO, storage commitment.
CONTEXTS = (
    *((str(MRImageStorage), str(syntax)) for syntax in SYNTAXES),
    (str(Verification), str(ImplicitVRLittleEndian)),
    (messages.SOP_CLASS, str(ImplicitVRLittleEndian)),
)
_ECHO_CONTEXT, COMMITMENT_CONTEXT = 2 * len(SYNTAXES) + 1, 2 * len(SYNTAXES) + 3
# Study and instance of the image that all others are made of: numbers of the same length take their place.
STUDY, _SERIES, IMAGE = "1.2.826.0.1.3680043.10.7.1000000001", "1.2.3.1000000002", "1.2.3.1000000003"
_IMAGES_PER_STUDY = 200
ASSOCIATE = "A-ASSOCIATE-RQ"
# What a mutated file is called: its transfer syntax.
KINDS_OF_FILES = frozenset(syntax.name for syntax in SYNTAXES)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken message. ``uid`` and ``data`` are the image that a mutated file was sent as; empty for a mutated PDU."""

    number: int
    kind: str
    message: bytes
    # Whether an association is opened for it first.
    needs_association: bool = True
    uid: str = ""
    data: bytes = b""


def mutated(seed: int, pdus: int, files: int) -> Callable[[int], Mutant]:
    """The message of a number: so many PDUs, and so many files spread evenly among them: the same work from begin to end."""
    return spread(pdus + files, files, lambda n: mutated_file(seed, n), lambda n: mutated_pdu(seed, n))


def spread(
    count: int, special: int, make_special: Callable[[int], Mutant], make_other: Callable[[int], Mutant]
) -> Callable[[int], Mutant]:
    """Makes ``count`` messages, ``special`` ones of which are of another kind, evenly spread; each kind has its own numbers."""

    def make(number: int) -> Mutant:
        before, after = (n * special // count for n in (number, number + 1))
        made = make_special(before) if after > before else make_other(number - before)
        return replace(made, number=number)

    return make


def mutated_pdu(seed: int, number: int) -> Mutant:
    """One of every kind of PDU in turn, broken anywhere."""
    kind, build = _KINDS[number % len(_KINDS)]
    source = random.Random(f"{seed} PDU {number}")
    return Mutant(number, kind, build(number, source), needs_association=kind != ASSOCIATE)


def mutated_file(seed: int, number: int) -> Mutant:
    """An image whose data set is broken, in PDUs that are not."""
    source = random.Random(f"{seed} file {number}")
    context = number % len(SYNTAXES)
    uid, whole = image(900_000_000 + number, SYNTAXES[context])
    data = broken(whole, source)
    message = wire.store(_template(), data=data, uid=uid, context=2 * context + 1)
    return Mutant(number, SYNTAXES[context].name, b"".join(message), uid=uid, data=data)


def image(number: int, syntax: str) -> tuple[str, bytes]:
    """SOP Instance UID and data set of a good image, another one for each number below a billion."""
    uid = IMAGE.replace("1000000003", str(1_000_000_000 + number))
    study = str(1_000_000_000 + number // _IMAGES_PER_STUDY)
    data = _encoded(ExplicitVRLittleEndian if syntax == DeflatedExplicitVRLittleEndian else syntax)
    data = data.replace(IMAGE.encode(), uid.encode()).replace(b"1000000001", study.encode())
    data = data.replace(b"1000000002", study.encode())
    return uid, _deflated(data) if syntax == DeflatedExplicitVRLittleEndian else data


def broken(data: bytes, source: random.Random) -> bytes:
    """A few bytes changed, some cut out or put in, or the end cut off."""
    mutant = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        at = source.randrange(len(mutant))
        what = source.random()
        if what < 0.7:
            mutant[at] = source.choice((0, 0xFF, 0x7F, 0x80, source.randrange(256)))
        elif what < 0.85:
            del mutant[at : at + source.randint(1, 12)]
        else:
            mutant[at:at] = source.randbytes(source.randint(1, 12))
        if len(mutant) < 2:
            return bytes(mutant)
    return bytes(mutant[: source.randrange(1, len(mutant))] if source.random() < 0.1 else mutant)


# ---------------------------------------------------------------- kinds of PDUs


def _association_request(number: int, source: random.Random) -> bytes:
    """Half of the time its length is put right again, so that more than the length is looked at."""
    request = wire.associate(contexts=CONTEXTS)
    if source.random() < 0.5:
        return broken(request, source)
    body = broken(request[6:], source)
    return request[:2] + len(body).to_bytes(4, "big") + body


def _store_command(number: int, source: random.Random) -> bytes:
    return _message(_store(number, source), source, breaks_command=True)


def _store_data(number: int, source: random.Random) -> bytes:
    return _message(_store(number, source), source, breaks_command=False)


def _store_headers(number: int, source: random.Random) -> bytes:
    """The first twelve bytes of a P-DATA-TF are lengths, types and flags: they are hit more often so."""
    pdus = _store(number, source).pdus()
    at = source.randrange(len(pdus))
    pdus[at] = broken(pdus[at][:12], source) + pdus[at][12:]
    return b"".join(pdus)


def _echo(number: int, source: random.Random) -> bytes:
    command = wire.command_set(command_of(0x0030, Verification), has_data=False)
    return _message(_Request(command, None, _ECHO_CONTEXT), source, breaks_command=True)


def _action(number: int, source: random.Random) -> bytes:
    command = command_of(0x0130, messages.SOP_CLASS, requested=True)
    command.ActionTypeID = messages.REQUEST
    asked = CommitmentRequest(f"1.2.4.{number}", (Reference(str(MRImageStorage), IMAGE),))
    return _commitment(command, messages.encode_request(asked), source)


def _event_report(number: int, source: random.Random) -> bytes:
    command = command_of(0x0100, messages.SOP_CLASS)
    command.EventTypeID = messages.ALL_KEPT
    told = CommitmentAnswer(f"1.2.4.{number}", (Reference(str(MRImageStorage), IMAGE),), ())
    return _commitment(command, messages.encode_answer(told), source)


def _other(number: int, source: random.Random) -> bytes:
    """Release and abort, and PDUs that only the other side may send."""
    pdus = (wire.RELEASE, wire.ABORT, b"\x06" + wire.RELEASE[1:], b"\x03" + wire.ABORT[1:], b"\x02" + _REQUEST[1:])
    return broken(source.choice(pdus), source)


_REQUEST = wire.associate(contexts=CONTEXTS)
_KINDS: tuple[tuple[str, Callable[[int, random.Random], bytes]], ...] = (
    (ASSOCIATE, _association_request),
    ("C-STORE command", _store_command),
    ("C-STORE data set", _store_data),
    ("C-STORE data set", _store_data),
    ("C-STORE PDU headers", _store_headers),
    ("C-ECHO", _echo),
    ("N-ACTION", _action),
    ("N-EVENT-REPORT", _event_report),
    ("A-RELEASE, A-ABORT and others", _other),
)


@dataclass(frozen=True, slots=True)
class _Request:
    """An encoded DIMSE request."""

    command: bytes
    data: bytes | None
    context: int

    def pdus(self) -> list[bytes]:
        return wire.framed(self.command, self.data, fragment=500, context=self.context)


def _message(request: _Request, source: random.Random, *, breaks_command: bool) -> bytes:
    """Half of the time the PDUs are broken as they travel, half of the time only what is in them."""
    pdus = request.pdus()
    if source.random() < 0.5:
        head, tail = (pdus[:1], pdus[1:]) if request.data is not None else (pdus, [])
        if breaks_command:
            return broken(b"".join(head), source) + b"".join(tail)
        return b"".join(head) + broken(b"".join(tail), source)
    if breaks_command or request.data is None:
        return b"".join(replace(request, command=broken(request.command, source)).pdus())
    return b"".join(replace(request, data=broken(request.data, source)).pdus())


def _commitment(command: Dataset, data: Dataset, source: random.Random) -> bytes:
    encoded = wire.command_set(command, has_data=True)
    request = _Request(encoded, encode(data, implicit=True), COMMITMENT_CONTEXT)
    return _message(request, source, breaks_command=source.random() < 0.5)


def command_of(field: int, sop_class: str, *, requested: bool = False) -> Dataset:
    command = Dataset()
    command.CommandField = field
    command.MessageID = 1
    setattr(command, "RequestedSOPClassUID" if requested else "AffectedSOPClassUID", sop_class)
    if sop_class == messages.SOP_CLASS:
        uid = messages.SOP_INSTANCE
        setattr(command, "RequestedSOPInstanceUID" if requested else "AffectedSOPInstanceUID", uid)
    return command


def _store(number: int, source: random.Random) -> _Request:
    context = source.randrange(len(SYNTAXES))
    uid, data = image(number, SYNTAXES[context])
    command = wire.command_set(wire.store_command(_template(), uid=uid), has_data=True)
    return _Request(command, data, 2 * context + 1)


# ---------------------------------------------------------------- the image


def template() -> Dataset:
    """A copy of it."""
    return deepcopy(_template())


@cache
def _template() -> Dataset:
    dataset = mr_image(1, study=STUDY, series=_SERIES)
    dataset.SOPInstanceUID = IMAGE
    dataset.Rows = dataset.Columns = 32
    dataset.PixelData = np.arange(1024, dtype="<u2").tobytes()
    return with_meta(dataset)


@cache
def _encoded(syntax: str) -> bytes:
    """The image in a transfer syntax that can be patched: all but the deflated one."""
    dataset = deepcopy(_template())
    if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        dataset.compress(syntax, generate_instance_uid=False)
    return encode(dataset, implicit=syntax == ImplicitVRLittleEndian, little_endian=syntax != ExplicitVRBigEndian)


def _deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(data) + packer.flush()
    return packed + bytes(len(packed) % 2)
