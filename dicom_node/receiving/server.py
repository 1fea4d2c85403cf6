"""pynetdicom's server with guards: who gets a place, and what a connection may cost before it has one."""

from __future__ import annotations

import contextlib
import hashlib
import queue
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
from dicom_node.receiving.anteroom import Anteroom
from dicom_node.receiving.pdus import (
    ABORT,
    SMALLEST_PDU_CAP,
    GuardedSocket,
    is_readable,
    is_version_1,
    reject,
    without_later_versions,
)
from dicom_node.receiving.refusals import UNKNOWN_VERSION, Refusal
from dicom_node.settings.sections import ListenerRules
from dicom_node.system.descriptors import Shortage
from dicom_node.system.log import get_logger, printable

# How many threads decide about requests, and how many requests may wait for them.
_JUDGES, _MOST_TO_JUDGE = 8, 64
# How long accepting rests when there is no descriptor (seconds).
_REST_S = 0.1


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for an association: the request's titles, made printable and fit for one line, and the IP address.

    ``certificate`` is the SHA-256 of the certificate that the peer has shown, in small hexadecimal digits; empty without
    TLS or without a certificate.
    """

    calling_ae: str
    called_ae: str
    address: str
    certificate: str = ""

    @staticmethod
    def of(request: bytes, address: str, certificate: str = "") -> Caller:
        """The caller that an A-ASSOCIATE-RQ names (PS3.8 9.3.2: bytes 11 to 26 and 27 to 42)."""
        called, calling = (title(request[at : at + 16].decode("ascii", "replace")) for at in (10, 26))
        return Caller(calling, called, address, certificate)


class Doorkeeper(Protocol):
    """Decides who gets an association, and is told about those who get none."""

    def judge(self, caller: Caller) -> Refusal | None:
        """Why an association is refused; None if the caller may have one."""

    def most_associations(self, calling_ae: str) -> int:
        """How many associations callers with this AE title may have at once."""

    def admitted(self, caller: Caller) -> None:
        """A caller got a place."""

    def refused(self, caller: Caller, refusal: Refusal) -> None:
        """A caller was refused: by the doorkeeper, or because there was no place."""

    def failed(self, event: str, address: str, why: str) -> None:
        """A connection from this IP address ended before it had asked for an association.

        ``event`` is ``tls_failed`` (the handshake) or ``no_association`` (anything later).
        """


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
    """Accepts connections, lets them wait in an `Anteroom`, and decides about their requests in a few threads.

    A connection has threads of its own only once its association is admitted.
    """

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
        self._doorkeeper = doorkeeper
        self._most_associations = listener.max_associations
        self._slots: list[Slot] = []
        self.first_pdus: dict[Any, tuple[bytes, Slot]] = {}
        self._lock = threading.Lock()
        self._shortage = Shortage()
        kwargs["request_handler"] = GuardedRequestHandler
        super().__init__(*args, **kwargs)
        self._requests: queue.Queue[tuple[Any, Any, bytes] | None] = queue.Queue(_MOST_TO_JUDGE)
        for number in range(_JUDGES):
            threading.Thread(target=self._judge_all, name=f"judge-{number}", daemon=True).start()
        self._anteroom = Anteroom(self.pdu_timeout_s, tls, self._take_request, doorkeeper.failed)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, and do nothing that waits for the peer.

        Raises
        ------
        OSError
            If that fails. The server goes on; without a descriptor for one more connection, it rests for a moment first.
        """
        try:
            connection, address = cast("socket.socket", self.socket).accept()
        except OSError as error:
            if self._shortage.is_why(error):
                # The connection stays in the backlog, and accepting would fail again at once.
                self._anteroom.make_room()
                time.sleep(_REST_S)
            raise
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Let a connection wait for its request."""
        self._anteroom.enter(request, client_address)

    def shutdown(self) -> None:
        """Accept nothing more, and end all connections that have no association."""
        super().shutdown()
        self._anteroom.close()
        for _ in range(_JUDGES):
            self._requests.put(None)

    def _take_request(self, connection: Any, address: Any, request: bytes) -> None:
        self._requests.put((connection, address, request))

    def _judge_all(self) -> None:
        """Decide about one request after the other."""
        while (waiting := self._requests.get()) is not None:
            connection, address, request = waiting
            try:
                connection.settimeout(self.pdu_timeout_s)
                self._judge(connection, address, request)
            except Exception:  # nothing that a peer sends may end the thread
                self.handle_error(connection, address)
                self.shutdown_request(connection)

    def _judge(self, connection: Any, address: Any, request: bytes) -> None:
        if not is_readable(request):
            self._doorkeeper.failed("no_association", str(address[0]), "not DICOM")
            self._answer(connection, ABORT)
            return
        slot = self._admit(request, Caller.of(request, str(address[0]), _certificate_of(connection)))
        if isinstance(slot, bytes):
            self._answer(connection, slot)
            return
        # The association starts only now: it has three threads, two of which poll their queues a thousand times a
        # second.
        self.first_pdus[connection] = without_later_versions(request), slot
        try:
            self.process_request_thread(connection, address)
        finally:
            slot.is_starting = False

    def _admit(self, request: bytes, caller: Caller) -> Slot | bytes:
        """A place for the association, or the A-ASSOCIATE-RJ for its peer (PS3.8 9.3.4)."""
        if not is_version_1(request):
            return reject(UNKNOWN_VERSION)
        place = self._doorkeeper.judge(caller) or self._place_for(caller)
        if isinstance(place, Slot):
            self._doorkeeper.admitted(caller)
            return place
        self._doorkeeper.refused(caller, place)
        return reject(place.rejection)

    def _place_for(self, caller: Caller) -> Slot | Refusal:
        with self._lock:
            self._slots = [slot for slot in self._slots if slot.is_used()]
            refusal = self._too_many(caller.calling_ae)
            if refusal is None:
                self._slots.append(Slot(caller.calling_ae))
                return self._slots[-1]
        return refusal

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

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write a log line instead of a traceback on standard error."""
        get_logger().exception("connection_failed", address=client_address[0])


def _certificate_of(connection: Any) -> str:
    """The SHA-256 of the certificate that the peer has shown; empty if it has shown none."""
    shown = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
    return hashlib.sha256(shown).hexdigest() if shown else ""


def title(value: object) -> str:
    """An AE title from outside: one line of at most 16 printable characters."""
    return printable(str(value).strip(), 16)
