"""Requests that name very many instances are read without making an object tree of them."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.commitment import messages, promises
from dicom_node.commitment.messages import CommitmentAnswer, CommitmentRequest, MessageError, Reference
from dicom_node.database.connection import Database
from tests.fakes.datasets import encode

REQUEST = CommitmentRequest("1.2.3", tuple(Reference("1.2.840.10008.5.1.4.1.1.4", f"1.2.9.{n}") for n in range(6000)))


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("count", [3, 6000])
def test_request__is_read_in_every_encoding(undefined: bool, syntax: str, count: int) -> None:
    asked = CommitmentRequest(REQUEST.transaction_uid, REQUEST.references[:count])
    dataset = messages.encode_request(asked)
    dataset["ReferencedSOPSequence"].is_undefined_length = undefined
    for item in dataset.ReferencedSOPSequence:
        item.is_undefined_length_sequence_item = undefined
    assert messages.read_request(encode(dataset, implicit=syntax == ImplicitVRLittleEndian), syntax) == asked


def test_request__items_may_hold_other_elements() -> None:
    dataset = messages.encode_request(CommitmentRequest("1.2.3", REQUEST.references[:2]))
    dataset.ReferencedSOPSequence[0].PurposeOfReferenceCodeSequence = []
    dataset.ReferencedSOPSequence[1].add_new(0x00091001, "UT", "x" * 70000)
    assert messages.read_request(encode(dataset), ExplicitVRLittleEndian).references == REQUEST.references[:2]


def test_answer__keeps_its_reasons() -> None:
    answer = CommitmentAnswer("1.2.3", REQUEST.references[:1], ((REQUEST.references[1], 0x0112),))
    for little in (True, False):
        data = encode(messages.encode_answer(answer), little_endian=little)
        syntax = ExplicitVRLittleEndian if little else "1.2.840.10008.1.2.2"
        assert messages.read_answer(data, syntax) == answer


_CHILD = """
import resource, sys
from dicom_node.commitment import messages
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = len(messages.read_request(data, "1.2.840.10008.1.2").references)
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def large(count: int) -> Iterator[bytes]:
    """A request in implicit VR little endian, as bytes."""
    sop_class = b"1.2.840.10008.5.1.4.1.1.4\0"
    for number in range(count):
        uid = b"1.2.826.0.1.%010d" % number
        uid += b"\0" * (len(uid) % 2)
        item = b"\x08\0\x50\x11" + struct.pack("<I", len(sop_class)) + sop_class
        item += b"\x08\0\x55\x11" + struct.pack("<I", len(uid)) + uid
        yield b"\xfe\xff\0\xe0" + struct.pack("<I", len(item)) + item


def test_request__of_90000_references_takes_little_memory() -> None:
    """pydicom would make more than 250 MB of it."""
    items = b"".join(large(90_000))
    data = b"\x08\0\x99\x11\xff\xff\xff\xff" + items + b"\xfe\xff\xdd\xe0\0\0\0\0"
    data += b"\x08\0\x95\x11" + struct.pack("<I", 6) + b"1.2.3\0"
    done = subprocess.run([sys.executable, "-c", _CHILD], input=data, capture_output=True, check=True)
    count, megabytes = map(int, done.stdout.split())
    assert count == 90_000
    assert megabytes < 120


def test_room__is_one_full_request_for_each_requester(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "LARGEST", 1000)
    with database.write() as session:
        promises.accept(session, REQUEST, "ROUTER")
    with database.read() as session:
        promises.check_room(session, "OTHER")
        with pytest.raises(MessageError, match="wait for an answer"):
            promises.check_room(session, "ROUTER")
