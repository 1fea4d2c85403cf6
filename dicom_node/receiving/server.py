"""pynetdicom's server with guards: who gets a place, and what a connection may cost before it has one."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from pynetdicom.dimse_primitives import N_ACTION
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_node.dicom.bounded_dimse import BoundedDimse
from dicom_node.dicom.budget import Budget
from dicom_node.receiving.pdus import (
    ABORT,
    SMALLEST_PDU_CAP,
    GuardedSocket,
    is_version_1,
    read_request,
    reject,
    without_later_versions,
)
from dicom_node.receiving.refusals import UNKNOWN_VERSION, Refusal
from dicom_node.settings.sections import ListenerRules
from dicom_node.system.log import get_logger, printable

# How many connections may exist that have not, or not yet, become associations; each has a thread.
SPARE_CONNECTIONS = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for an association: the request's titles, made printable and fit for one line, and the IP address."""

    calling_ae: str
    called_ae: str
    address: str

    @staticmethod
    def of(request: bytes, address: str) -> Caller:
        """The caller that an A-ASSOCIATE-RQ names (PS3.8 9.3.2: bytes 11 to 26 and 27 to 42)."""
        called, calling = (title(request[at : at + 16].decode("ascii", "replace")) for at in (10, 26))
        return Caller(calling, called, address)


class Doorkeeper(Protocol):
    """Decides who gets an association, and is told about those who get none."""

    def judge(self, caller: Caller) -> Refusal | None:
        """Why an association is refused; None if the caller may have one."""

    def most_associations(self, calling_ae: str) -> int:
        """How many associations callers with this AE title may have at once."""

    def refused(self, caller: Caller, refusal: Refusal) -> None:
        """A caller was refused: by the doorkeeper, or because there was no place."""

    def tls_failed(self, address: str) -> None:
        """A caller at this IP address did not complete the TLS handshake."""


class GuardedDimse(BoundedDimse):
    """Serves a peer's requests even while we wait for a response from it."""

    # A peer that waits for each answer never has this many requests waiting.
    most_waiting = 8

    def __init__(self, association: Any, budget: Budget) -> None:
        super().__init__(association, budget)
        # What to do, in its own thread, once the response to an N-ACTION was handed over for sending.
        self.after_response: Callable[[], None] | None = None

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message; see `DIMSEServiceProvider`."""
        super().send_msg(primitive, context_id)
        if isinstance(primitive, N_ACTION) and self.after_response is not None:
            threading.Thread(target=self.after_response, daemon=True).start()
            self.after_response = None

    def get_msg(self, block: bool = False) -> Any:
        """The next message. While we wait for a response, requests of the peer that come before it are served."""
        if not block:
            return super().get_msg(block=False)
        deadline = time.monotonic() + (self.dimse_timeout or 0.0)
        while time.monotonic() < deadline and self.dul.is_alive() and self.dul.peek_next_pdu() is None:
            context_id, message = super().get_msg(block=False)
            if message is None:
                time.sleep(0.01)
            elif message.is_valid_request:
                self.assoc._serve_request(message, cast("int", context_id))
                # Serving a request lets the association's own thread continue; it must be held until the response is
                # here.
                self.assoc._is_paused = True
            else:
                return context_id, message
        return None, None


class GuardedRequestHandler(RequestHandler):
    """Gives each association a `GuardedSocket` and a `GuardedDimse`."""

    def _create_association(self) -> Any:
        server = cast("GuardedServer", self.server)
        association = super()._create_association()
        # The plain socket has announced the connection already; the one that takes its place announces it itself.
        association.dul.event_queue.queue.clear()
        guarded = GuardedSocket(association, client_socket=cast("socket.socket", self.request))
        guarded.pdu_cap, guarded.pdu_timeout_s = server.pdu_cap, server.pdu_timeout_s
        guarded.first_pdu, slot = server.first_pdus.pop(self.request)
        slot.association = association
        association.dul.socket = guarded
        association.acse_timeout = server.pdu_timeout_s
        association.dimse = GuardedDimse(association, server.budget)
        return association


@dataclass(eq=False)
class Slot:
    """A place for one association of a calling AE title."""

    calling: str
    is_starting: bool = True
    association: Any = None

    def is_used(self) -> bool:
        """Whether its association is alive or about to start."""
        return self.is_starting or (self.association is not None and self.association.is_alive())


class GuardedServer(ThreadedAssociationServer):
    """Accepts connections and sets their time-out; all waiting for a peer happens in the connection's own thread."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        *args: Any,
        listener: ListenerRules,
        tls: ssl.SSLContext | None,
        doorkeeper: Doorkeeper,
        **kwargs: Any,
    ) -> None:
        self.pdu_timeout_s = listener.pdu_timeout_s
        self.pdu_cap = max(SMALLEST_PDU_CAP, listener.max_pdu + 6)
        self.budget = Budget.of(listener)
        self._tls = tls
        self._doorkeeper = doorkeeper
        self._most_associations = listener.max_associations
        # Connections that have not asked for an association yet, the oldest first.
        self._waiting: dict[socket.socket, None] = {}
        self._slots: list[Slot] = []
        self.first_pdus: dict[Any, tuple[bytes, Slot]] = {}
        self._lock = threading.Lock()
        kwargs["request_handler"] = GuardedRequestHandler
        super().__init__(*args, **kwargs)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, and do nothing that waits for the peer."""
        connection, address = cast("socket.socket", self.socket).accept()
        connection.settimeout(self.pdu_timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Make room if there are too many connections: cut the oldest one that has not asked for an association."""
        with self._lock:
            oldest = next(iter(self._waiting)) if len(self._waiting) >= SPARE_CONNECTIONS else None
        if oldest is not None:
            self._cut(oldest)
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection, in its own thread."""
        if self._tls is not None:
            request = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._waiting[request] = None
        first = self._hear(request, client_address[0])
        with self._lock:
            self._waiting.pop(request, None)
        if not first:
            self._answer(request, ABORT)
            return
        slot = self._admit(first, client_address[0])
        if isinstance(slot, bytes):
            self._answer(request, slot)
            return
        # The association starts only now: it has three threads, two of which poll their queues a thousand times a
        # second.
        self.first_pdus[request] = without_later_versions(first), slot
        try:
            super().process_request_thread(request, client_address)
        finally:
            slot.is_starting = False

    def _admit(self, first: bytes, address: str) -> Slot | bytes:
        """A place for the association, or the A-ASSOCIATE-RJ for its peer (PS3.8 9.3.4)."""
        if not is_version_1(first):
            return reject(UNKNOWN_VERSION)
        caller = Caller.of(first, address)
        refusal = self._doorkeeper.judge(caller)
        if refusal is None:
            with self._lock:
                self._slots = [slot for slot in self._slots if slot.is_used()]
                refusal = self._too_many(caller.calling_ae)
                if refusal is None:
                    self._slots.append(Slot(caller.calling_ae))
                    return self._slots[-1]
        self._doorkeeper.refused(caller, refusal)
        return reject(refusal.rejection)

    def _too_many(self, calling: str) -> Refusal | None:
        """Why there is no place for one more association; None if there is."""
        if len(self._slots) >= self._most_associations:
            return Refusal.TOO_MANY
        if sum(slot.calling == calling for slot in self._slots) >= self._doorkeeper.most_associations(calling):
            return Refusal.TOO_MANY_OF_PEER
        return None

    def _answer(self, connection: Any, pdu: bytes) -> None:
        """Send a last PDU, then close the connection."""
        with contextlib.suppress(OSError, ValueError):
            connection.sendall(pdu)
        self.shutdown_request(connection)

    def _hear(self, connection: Any, address: str) -> bytes:
        """The peer's A-ASSOCIATE-RQ; empty if the peer does not send a proper one."""
        try:
            if self._tls is not None:
                # The socket's time-out covers the whole handshake, however slowly its bytes come.
                connection.do_handshake()
        except (OSError, ValueError) as error:
            get_logger().warning("tls_failed", address=address, error=type(error).__name__)
            self._doorkeeper.tls_failed(address)
            # Nothing can be sent without TLS: an attempt would begin the handshake again.
            self._cut(connection)
            return b""
        try:
            first = read_request(connection, self.pdu_timeout_s)
        except (OSError, ValueError) as error:
            get_logger().warning("no_association", address=address, error=type(error).__name__)
            return b""
        if not first:
            get_logger().warning("no_association", address=address, error="not DICOM")
        return first

    def _cut(self, connection: Any) -> None:
        with self._lock:
            self._waiting.pop(connection, None)
        with contextlib.suppress(OSError):
            # SSLSocket's own shutdown would take the TLS object away from the thread that reads.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write a log line instead of a traceback on standard error."""
        get_logger().exception("connection_failed", address=client_address[0])


def title(value: object) -> str:
    """An AE title from outside: one line of at most 16 printable characters."""
    return printable(str(value).strip(), 16)
