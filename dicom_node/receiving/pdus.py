"""Reading PDUs from a peer that may misbehave: each has a maximum length, a limit on its parts and one deadline."""

from __future__ import annotations

import select
import socket
import ssl
import time
from typing import cast

from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.transport import AssociationSocket

from dicom_node.dicom.pdu_items import has_too_many_items
from dicom_node.receiving.refusals import Rejection

# An A-ASSOCIATE-RQ with 128 contexts of many transfer syntaxes stays far below this.
SMALLEST_PDU_CAP = 1024 * 1024
# A-ABORT by the service provider: unexpected PDU (PS3.8 9.3.8).
ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x02"
_RECEIVE_BLOCK = 65536
_HEAD = 6
_TYPES = range(1, 8)
# The fixed part of an A-ASSOCIATE-RQ: version, titles, 32 reserved bytes.
_SHORTEST_REQUEST = 68


class GuardedSocket(AssociationSocket):
    """A socket on which each PDU has a maximum length, a limit on its parts, and one deadline for the whole of it."""

    pdu_cap: int = SMALLEST_PDU_CAP
    pdu_timeout_s: float = 30.0
    # The PDU that was read before there was an association.
    first_pdu: bytes = b""
    # The type of the PDU whose body is read next.
    _kind: int = 0

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly ``nr_bytes``, or what came before the peer closed the connection.

        Raises
        ------
        OSError
            If more is announced than a PDU may have, if it has too many parts, or the time is up. pynetdicom then closes
            the connection.
        """
        if nr_bytes > self.pdu_cap:
            raise OSError(f"a PDU of {nr_bytes} bytes is announced; the limit is {self.pdu_cap}")
        if self.first_pdu:
            first, self.first_pdu = self.first_pdu[:nr_bytes], self.first_pdu[nr_bytes:]
            return bytearray(first)
        connection = cast("socket.socket", self.socket)
        received = read_exactly(connection, nr_bytes, time.monotonic() + self.pdu_timeout_s)
        connection.settimeout(self.pdu_timeout_s)
        self._check_parts(received)
        return received

    def _check_parts(self, received: bytearray) -> None:
        """Check a PDU's body; what comes between two bodies is the first six bytes of a PDU."""
        if self._kind and has_too_many_items(self._kind, received):
            raise OSError("a PDU has too many parts")
        is_head = not self._kind and len(received) == _HEAD and received[0] in _TYPES
        self._kind = received[0] if is_head else 0

    @property
    def ready(self) -> bool:
        """Whether there is something to read. pynetdicom's own way, select(2), knows no descriptor above 1023."""
        if self.first_pdu:
            return True
        if self.socket is None or not self._is_connected:
            return False
        try:
            waiting = select.poll()
            waiting.register(self.socket, select.POLLIN)
            is_readable = bool(waiting.poll(0))
        except (OSError, ValueError):
            # Evt17: the connection is closed (PS3.8 9.2.1).
            self.event_queue.put("Evt17")
            return False
        return is_readable or (isinstance(self.socket, ssl.SSLSocket) and bool(self.socket.pending()))


def read_exactly(connection: socket.socket, size: int, deadline: float) -> bytearray:
    """Read ``size`` bytes, or what came before the peer closed the connection.

    Raises
    ------
    OSError
        If the time is up (``deadline`` is a time of the monotonic clock), or the connection breaks.
    """
    received = bytearray()
    while len(received) < size:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("a PDU took too long")
        connection.settimeout(remaining)
        block = connection.recv(min(_RECEIVE_BLOCK, size - len(received)))
        if not block:
            break
        received += block
    return received


def bytes_missing(request: bytes | bytearray) -> int:
    """How many bytes an A-ASSOCIATE-RQ still needs, with which every connection begins (PS3.8 9.3.2); 0 if it is whole.

    Raises
    ------
    ValueError
        If what came is none, or is longer than one may be.
    """
    length = int.from_bytes(request[2:6], "big")
    if request and (request[0] != 0x01 or length > SMALLEST_PDU_CAP):
        raise ValueError("not DICOM")
    return 6 - len(request) if len(request) < 6 else 6 + length - len(request)


def is_readable(request: bytes) -> bool:
    """Whether an A-ASSOCIATE-RQ can be decoded, at no great cost. If not, its association would wait for one that can."""
    if len(request) - 6 < _SHORTEST_REQUEST or has_too_many_items(request[0], request[6:]):
        return False
    pdu = A_ASSOCIATE_RQ()
    try:
        pdu.decode(request)
        pdu.to_primitive()
    except Exception:  # whatever is wrong with it
        return False
    return True


def is_version_1(request: bytes) -> bool:
    """Whether a request uses the only version of the protocol (PS3.8 9.3.2: only that bit is tested)."""
    return bool(request[7] & 1)


def without_later_versions(request: bytes) -> bytes:
    """The request with only the bit of version 1 set, since pynetdicom looks at all bits of the version."""
    return request[:6] + b"\x00\x01" + request[8:]


def reject(rejection: Rejection) -> bytes:
    """The A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return b"\x03\x00\x00\x00\x00\x04\x00" + bytes(rejection)
