"""The upper layer by hand (PS3.8 section 9.3): PDUs as bytes, for peers that misbehave."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from tests.fakes.datasets import encode

RELEASE = b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"
ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00"
_TYPES = {
    b"\x02": "accepted",
    b"\x03": "rejected",
    b"\x04": "answered",
    b"\x06": "released",
    b"\x07": "aborted",
    b"": "closed",
}


def _item(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(data)) + data


# SOP class and transfer syntax: presentation contexts 1, 3, 5 and so on.
IMAGES = ((str(MRImageStorage), str(ExplicitVRLittleEndian)),)


def associate(
    *,
    calling: str = "TEST",
    called: str = "SPINEONE",
    contexts: Sequence[tuple[str, str]] = IMAGES,
    max_pdu: int = 0,
) -> bytes:
    """An A-ASSOCIATE-RQ."""
    body = struct.pack(">HH", 1, 0) + called.ljust(16).encode() + calling.ljust(16).encode() + bytes(32)
    body += _item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (sop_class, syntax) in enumerate(contexts):
        proposed = _item(0x30, sop_class.encode()) + _item(0x40, syntax.encode())
        body += _item(0x20, bytes([2 * number + 1, 0, 0, 0]) + proposed)
    body += _item(0x50, _item(0x51, struct.pack(">I", max_pdu)) + _item(0x52, b"1.2.3"))
    return struct.pack(">BBI", 1, 0, len(body)) + body


def pdata(header: int, data: bytes, context: int = 1) -> bytes:
    """A P-DATA-TF with one fragment; ``header`` has bit 0 for a command, bit 1 for the last fragment."""
    fragment = struct.pack(">IBB", len(data) + 2, context, header) + data
    return struct.pack(">BBI", 4, 0, len(fragment)) + fragment


def store(
    dataset: Dataset,
    *,
    message: int = 1,
    fragment: int = 16000,
    data: bytes | None = None,
    uid: str | None = None,
    context: int = 1,
) -> list[bytes]:
    """A C-STORE-RQ as PDUs."""
    command = store_command(dataset, message=message, uid=uid)
    data = encode(dataset) if data is None else data
    return framed(command_set(command, has_data=True), data, fragment=fragment, context=context)


def store_command(dataset: Dataset, *, message: int = 1, uid: str | None = None) -> Dataset:
    """The command of a C-STORE-RQ."""
    command = Dataset()
    command.AffectedSOPClassUID = dataset.SOPClassUID
    command.CommandField = 1
    command.MessageID = message
    command.Priority = 2
    command.AffectedSOPInstanceUID = uid or dataset.SOPInstanceUID
    return command


def command_set(command: Dataset, *, has_data: bool) -> bytes:
    """A command encoded, with its group length (PS3.7 6.3.1)."""
    command.CommandDataSetType = 1 if has_data else 0x0101
    body = encode(command, implicit=True)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def framed(command: bytes, data: bytes | None, *, fragment: int = 16000, context: int = 1) -> list[bytes]:
    """An encoded command set and data set as P-DATA-TF PDUs."""
    pdus = [pdata(3, command, context)]
    if data is None:
        return pdus
    parts = [data[i : i + fragment] for i in range(0, len(data), fragment)] or [b""]
    return pdus + [pdata(2 if i == len(parts) - 1 else 0, part, context) for i, part in enumerate(parts)]


def connect(port: int, timeout: float = 10) -> socket.socket:
    """A TCP connection to this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=timeout)


def answer(connection: socket.socket) -> bytes:
    """The next PDU; empty if the connection was closed."""
    try:
        return next_pdu(connection)
    except OSError:
        return b""


def next_pdu(connection: socket.socket) -> bytes:
    """The next PDU; empty if the connection was closed in order. OSError if it was not, or if nothing came in time."""
    head = _exactly(connection, 6)
    return head + _exactly(connection, int.from_bytes(head[2:6], "big")) if len(head) == 6 else b""


def kind(pdu: bytes) -> str:
    """What a PDU says."""
    return _TYPES.get(pdu[:1], pdu[:1].hex())


def status_of(pdu: bytes) -> int:
    """The status of a C-STORE-RSP; -1 if there is none."""
    at = pdu.find(b"\x00\x00\x00\x09\x02\x00\x00\x00")
    return int.from_bytes(pdu[at + 8 : at + 10], "little") if pdu[:1] == b"\x04" and at >= 0 else -1


def is_closed(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side ends the connection by itself."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def is_cut(connection: socket.socket, data: bytes, *, times: int, pause: float = 0) -> bool:
    """Whether the other side ends the connection while we send to it."""
    try:
        for _ in range(times):
            connection.sendall(data)
            time.sleep(pause)
    except OSError:
        return True
    return False


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (block := connection.recv(size - len(data))):
        data += block
    return data
