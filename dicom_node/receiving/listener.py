"""The listener: C-ECHO and C-STORE SCP, storage commitment both ways. A process of its own, and never torch in it.

pynetdicom's server is used with four changes, each for a peer that does not behave: a PDU has a largest length and one
deadline from its first byte to its last; the TLS handshake happens in the connection's own thread; a connection counts
when its association is admitted, so that silent sockets take no place away from a permitted sender; and what a peer may
make us hold in memory has a limit, for each object and for all together.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from pydicom.uid import UID_dictionary
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, _config, build_context, evt, register_uid
from pynetdicom.dimse_primitives import N_ACTION
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import _STORAGE_CLASSES, Verification
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_node.alerts.record import close_alert, open_alerts, raise_alert
from dicom_node.audit.log import AuditLog
from dicom_node.audit.transfers import Receiving
from dicom_node.commitment import evidence, messages, promises
from dicom_node.commitment.promises import Promise
from dicom_node.database.tables import Database, utc_now
from dicom_node.dicom.bounded_dimse import BoundedDimse, Budget
from dicom_node.dicom.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.images import studies
from dicom_node.images.store import CANNOT_UNDERSTAND, SUCCESS, Incoming, InstanceStore
from dicom_node.settings.node import Listener, NodeSettings
from dicom_node.system.files import exclusive_lock
from dicom_node.system.lifecycle import StopFlag, keep_memory_flat, notify_ready
from dicom_node.system.log import get_logger, printable

# A-ASSOCIATE-RQ with 128 contexts of many transfer syntaxes stays far under it.
SMALLEST_PDU_CAP = 1024 * 1024
_RECEIVE_BLOCK = 65536
# Threads of connections that have not (or not yet) become associations, beyond those that are.
_SPARE_CONNECTIONS = 200
_LOOK_EVERY_S = 10.0
_STOP_GRACE_S = 10.0
_STOP_IDLE_GRACE_S = 1.0
# Commitment requests of senders without an address for the answer: it goes out on their association so long after the
# response, and is given up after the grace.
_IN_PLACE_PAUSE_S = 0.3
_IN_PLACE_GRACE_S = 60.0

# A-ASSOCIATE-RJ result, source and reason (PS3.8 9.3.4).
_REJECT_CALLING_AE = (0x01, 0x01, 0x03)
_REJECT_NO_REASON = (0x01, 0x01, 0x01)
_REJECT_VERSION = (0x01, 0x02, 0x02)
_REJECT_BUSY = (0x02, 0x03, 0x02)
_REJECT_CONGESTED = (0x02, 0x03, 0x01)

# The fixed part of an A-ASSOCIATE-RQ: version, titles, 32 reserved bytes.
_SHORTEST_REQUEST = 68
# A-ABORT by the service provider: unexpected PDU (PS3.8 9.3.8).
_ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x02"

# JPIP references pixels elsewhere: there would be nothing to keep. SMPTE 2110 are streams, not files.
_NOT_STORABLE_SYNTAXES = ("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.204")
_NOT_STORABLE_PREFIX = "1.2.840.10008.1.2.7."
# JPIP HTJ2K Referenced Deflate
_NOT_STORABLE = {*_NOT_STORABLE_SYNTAXES, "1.2.840.10008.1.2.4.205"}


def storage_sop_classes() -> list[str]:
    """Every standard storage SOP class of composite instances, retired ones too (old archives still send them)."""
    known = set(_STORAGE_CLASSES.values())
    listed = {
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class"
        and "Storage" in name
        and uid.startswith(("1.2.840.10008.5.1.4.1.1.", "1.2.840.10008.5.1.4.34."))
    }
    return sorted(known | listed)


def transfer_syntaxes() -> list[str]:
    """Every transfer syntax in which an object has its pixels in itself."""
    return [
        uid for uid in ALL_TRANSFER_SYNTAXES if uid not in _NOT_STORABLE and not uid.startswith(_NOT_STORABLE_PREFIX)
    ]


class SharedContexts(list[PresentationContext]):
    """Presentation contexts that all associations share. pynetdicom copies an acceptor's for each association, although
    it only reads them: with some two hundred classes in forty transfer syntaxes that took most of a tenth of a second."""

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedContexts:
        return self


def supported_contexts() -> SharedContexts:
    """What the node accepts: verification, storage commitment in both roles, and storage in all transfer syntaxes."""
    syntaxes = transfer_syntaxes()
    commitment = build_context(messages.SOP_CLASS)
    # A destination that reports to us is the SCP (PS3.4 J.3.3), a sender that asks us is the SCU.
    commitment.scu_role = commitment.scp_role = True
    contexts = SharedContexts([build_context(Verification), commitment])
    for uid in storage_sop_classes():
        if uid not in _STORAGE_CLASSES.values():
            # Retired classes, which pynetdicom would not serve by itself.
            register_uid(uid, f"RetiredStorage_{uid.replace('.', '_')}", StorageServiceClass)
        contexts.append(build_context(uid, syntaxes))
    return contexts


class GuardedSocket(AssociationSocket):
    """A socket on which a PDU has a largest length and a deadline as a whole."""

    pdu_cap: int = SMALLEST_PDU_CAP
    pdu_timeout_s: float = 30.0
    # Was read before there was an association.
    first_pdu: bytes = b""

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly ``nr_bytes``, or what came before the peer closed.

        Raises
        ------
        OSError
            If more is announced than a PDU may have, or the time is over. pynetdicom closes the connection then.
        """
        if nr_bytes > self.pdu_cap:
            raise OSError(f"a PDU of {nr_bytes} bytes is announced; the limit is {self.pdu_cap}")
        if self.first_pdu:
            first, self.first_pdu = self.first_pdu[:nr_bytes], self.first_pdu[nr_bytes:]
            return bytearray(first)
        connection = cast("socket.socket", self.socket)
        received = read_exactly(connection, nr_bytes, time.monotonic() + self.pdu_timeout_s)
        connection.settimeout(self.pdu_timeout_s)
        return received

    @property
    def ready(self) -> bool:
        """Whether there is something to read."""
        return bool(self.first_pdu) or bool(super().ready)


def read_exactly(connection: socket.socket, size: int, deadline: float) -> bytearray:
    """Read ``size`` bytes, or what came before the peer closed.

    Raises
    ------
    OSError
        If the time is over (``deadline`` is of the monotonic clock), or the connection breaks.
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


def read_request(connection: socket.socket, timeout_s: float) -> bytes:
    """The A-ASSOCIATE-RQ with which every connection begins (PS3.8 9.3.2); empty if anything else comes.

    Raises
    ------
    OSError
        If it does not come in time, or the connection breaks.
    """
    deadline = time.monotonic() + timeout_s
    head = read_exactly(connection, 6, deadline)
    length = int.from_bytes(head[2:6], "big")
    if len(head) < 6 or head[0] != 0x01 or length > SMALLEST_PDU_CAP:
        return b""
    body = read_exactly(connection, length, deadline)
    return bytes(head + body) if len(body) == length >= _SHORTEST_REQUEST and _is_readable(head + body) else b""


def _is_readable(request: bytes | bytearray) -> bool:
    """Whether an A-ASSOCIATE-RQ can be decoded. One that cannot would keep an association waiting for one that can."""
    pdu = A_ASSOCIATE_RQ()
    try:
        pdu.decode(bytes(request))
        pdu.to_primitive()
    except Exception:  # whatever is wrong with it
        return False
    return True


def _is_version_1(request: bytes) -> bool:
    """Whether a request speaks the only version of the protocol (PS3.8 9.3.2: that bit alone is looked at)."""
    return bool(request[7] & 1)


def _without_later_versions(request: bytes) -> bytes:
    """pynetdicom looks at all bits of the version."""
    return request[:6] + b"\x00\x01" + request[8:]


class GuardedDimse(BoundedDimse):
    """Serves a peer's requests also while a response of it is waited for."""

    # A peer waits for each answer, so that requests never pile up.
    most_waiting = 8

    def __init__(self, association: Any, budget: Budget) -> None:
        super().__init__(association, budget)
        # What to do, in a thread of its own, when the response to an N-ACTION was handed over for sending.
        self.after_response: Callable[[], None] | None = None

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message; see `DIMSEServiceProvider`."""
        super().send_msg(primitive, context_id)
        if isinstance(primitive, N_ACTION) and self.after_response is not None:
            threading.Thread(target=self.after_response, daemon=True).start()
            self.after_response = None

    def get_msg(self, block: bool = False) -> Any:
        """The next message. Who waits for a response gets that; requests of the peer that come before it are served."""
        if not block:
            return super().get_msg(block=False)
        deadline = time.monotonic() + (self.dimse_timeout or 0.0)
        while time.monotonic() < deadline and self.dul.is_alive() and self.dul.peek_next_pdu() is None:
            context_id, message = super().get_msg(block=False)
            if message is None:
                time.sleep(0.01)
            elif message.is_valid_request:
                self.assoc._serve_request(message, cast("int", context_id))
                # Serving ends with the opposite, as in the association's own thread, which is still held.
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
    """A place for one association, of a calling AE title."""

    calling: str
    is_starting: bool = True
    association: Any = None

    def is_used(self) -> bool:
        """Whether its association lives, or is about to."""
        return self.is_starting or (self.association is not None and self.association.is_alive())


class GuardedServer(ThreadedAssociationServer):
    """Accepts and sets the time-out first; everything that waits for the peer happens in the connection's thread."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        *args: Any,
        listener: Listener,
        tls: ssl.SSLContext | None,
        judge: Callable[[str, str, str], tuple[int, int, int] | None],
        refuse: Callable[[str, str, str, str], None],
        most_of: Callable[[str], int],
        tls_failed: Callable[[str], None],
        **kwargs: Any,
    ) -> None:
        self.pdu_timeout_s = listener.pdu_timeout_s
        self.pdu_cap = max(SMALLEST_PDU_CAP, listener.max_pdu + 6)
        self.budget = Budget.of(listener)
        self._tls = tls
        self._judge = judge
        self._refuse = refuse
        self._tls_failed = tls_failed
        self._most_associations = listener.max_associations
        self._most_of = most_of
        # Connections that have not asked for an association yet, the oldest first.
        self._waiting: dict[socket.socket, None] = {}
        self._slots: list[Slot] = []
        self.first_pdus: dict[Any, tuple[bytes, Slot]] = {}
        self._lock = threading.Lock()
        kwargs["request_handler"] = GuardedRequestHandler
        super().__init__(*args, **kwargs)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept only."""
        connection, address = cast("socket.socket", self.socket).accept()
        connection.settimeout(self.pdu_timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Too many connections at once: the oldest that has not asked for an association makes room."""
        with self._lock:
            oldest = next(iter(self._waiting)) if len(self._waiting) >= _SPARE_CONNECTIONS else None
        if oldest is not None:
            self._cut(oldest)
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The connection's own thread."""
        if self._tls is not None:
            request = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._waiting[request] = None
        first = self._hear(request, client_address[0])
        with self._lock:
            self._waiting.pop(request, None)
        if not first:
            self._answer(request, _ABORT)
            return
        slot = self._admit(first, client_address[0])
        if isinstance(slot, bytes):
            self._answer(request, slot)
            return
        # Only now: an association is three threads, two of which look at their queues a thousand times a second.
        self.first_pdus[request] = _without_later_versions(first), slot
        try:
            super().process_request_thread(request, client_address)
        finally:
            slot.is_starting = False

    def _admit(self, first: bytes, address: str) -> Slot | bytes:
        """A place for the association, or the A-ASSOCIATE-RJ for its peer (PS3.8 9.3.4)."""
        called, calling = (_title(first[at : at + 16].decode("ascii", "replace")) for at in (10, 26))
        code = self._judge(calling, called, address) if _is_version_1(first) else _REJECT_VERSION
        if code is None:
            with self._lock:
                self._slots = [slot for slot in self._slots if slot.is_used()]
                reason = self._too_many(calling)
                if not reason:
                    self._slots.append(Slot(calling))
                    return self._slots[-1]
            self._refuse(calling, called, address, reason)
        return b"\x03\x00\x00\x00\x00\x04\x00" + bytes(code or _REJECT_BUSY)

    def _too_many(self, calling: str) -> str:
        """Why there is no place for one more association; empty if there is."""
        if len(self._slots) >= self._most_associations:
            return "too many associations"
        if sum(slot.calling == calling for slot in self._slots) >= self._most_of(calling):
            return "too many associations of this peer"
        return ""

    def _answer(self, connection: Any, pdu: bytes) -> None:
        """A last word, and the end."""
        with contextlib.suppress(OSError, ValueError):
            connection.sendall(pdu)
        self.shutdown_request(connection)

    def _hear(self, connection: Any, address: str) -> bytes:
        """What a peer asks for; empty if it does not ask as it should."""
        try:
            if self._tls is not None:
                # The socket's time-out is one for the whole handshake, however it drips.
                connection.do_handshake()
        except (OSError, ValueError) as error:
            get_logger().warning("tls_failed", address=address, error=type(error).__name__)
            self._tls_failed(address)
            # Without TLS there is no last word: to send one would begin the handshake again.
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
            # Not SSLSocket's own, which takes the TLS object away from the thread that reads.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A log line instead of a traceback on standard error."""
        get_logger().exception("connection_failed", address=client_address[0])


class StorageListener:
    """The C-STORE SCP of a node.

    Parameters
    ----------
    settings
        Of the whole node.
    database
        For alerts about refused associations.
    store
        Keeps what arrives.
    """

    def __init__(self, settings: NodeSettings, database: Database, store: InstanceStore) -> None:
        self._settings = settings
        self._database = database
        self._store = store
        self._peers = Peers(settings)
        self._audit = Receiving(AuditLog(settings), database)
        self._server: GuardedServer | None = None
        # What each association has brought, where its release says something (`study.quiet_seconds_after_release`).
        self._brought: dict[Any, set[str]] = {}
        self._brought_lock = threading.Lock()

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Bind and serve in threads.

        Raises
        ------
        OSError
            If the address cannot be listened on.
        """
        listener = self._settings.listener
        tame_pynetdicom()
        ae = self._application_entity()
        contexts = supported_contexts()
        server = ae.make_server(
            (listener.host, listener.port),
            contexts=contexts,
            evt_handlers=self._handlers(),
            server_class=GuardedServer,
            listener=listener,
            tls=tls_context(listener),
            judge=self._judge,
            refuse=self._note_refusal,
            most_of=lambda calling: self._peers.most_associations(calling) or listener.max_associations,
            tls_failed=lambda address: self._audit.refused("", address, "TLS handshake failed"),
        )
        ae._servers.append(server)
        self._server = server
        self._ae = ae
        threading.Thread(target=server.serve_forever, args=(0.1,), name="listener", daemon=True).start()

    def stop(self) -> None:
        """Accept nothing more, let images that are on their way arrive for some seconds, then abort all associations."""
        server = self._server
        if server is None:
            return
        associations = server.active_associations
        server.shutdown()
        began = time.monotonic()
        while any(self._may_go_on(association, time.monotonic() - began) for association in associations):
            time.sleep(0.05)
        for association in associations:
            if association.is_alive():
                association.abort()
        self._audit.report_all()
        self._server = None

    def report_quiet(self) -> None:
        """Tell the audit log what associations have brought that stay open."""
        self._audit.report_quiet()

    def _may_go_on(self, association: Any, stopping_for_s: float) -> bool:
        limit = _STOP_GRACE_S if association.dimse.is_busy else _STOP_IDLE_GRACE_S
        return bool(association.is_alive() and association.is_established and stopping_for_s < limit)

    def _application_entity(self) -> AE:
        listener = self._settings.listener
        ae = AE(listener.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = listener.max_pdu
        ae.network_timeout = listener.idle_timeout_s
        ae.dimse_timeout = listener.idle_timeout_s
        # Our own count (of established associations) decides; pynetdicom's counts silent sockets too.
        ae.maximum_associations = listener.max_associations + _SPARE_CONNECTIONS
        return ae

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_ABORTED, self._on_aborted),
            (evt.EVT_CONN_CLOSE, lambda event: self._audit.ended(event.assoc)),
            (evt.EVT_RELEASED, self._on_released),
            (evt.EVT_CONN_CLOSE, self._forget_studies),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_ACTION, self._on_commitment_request),
            (evt.EVT_N_EVENT_REPORT, self._on_commitment_answer),
        ]

    def _judge(self, calling: str, called: str, address: str) -> tuple[int, int, int] | None:
        """Why an association is refused, in the standard's numbers; None if it is not."""
        reason, code = self._refusal(calling, called, address)
        if not reason:
            get_logger().info("association", calling_ae=calling, address=address)
            return None
        self._note_refusal(calling, called, address, reason)
        if code != _REJECT_CONGESTED:
            self._audit.refused(calling, address, f"association refused: {reason}")
        return code

    def _note_refusal(self, calling: str, called: str, address: str, reason: str) -> None:
        get_logger().warning("association_refused", calling_ae=calling, called_ae=called, address=address, why=reason)
        self._alert("refused", f"{address}: {reason}", f"calling AE {calling}, called AE {called}")

    def _refusal(self, calling: str, called: str, address: str) -> tuple[str, tuple[int, int, int]]:
        """Why an association is refused, and the code to say so; an empty reason if it is not."""
        listener = self._settings.listener
        if listener.require_called_ae and called != listener.ae_title:
            return "wrong called AE title", (0x01, 0x01, 0x07)
        if not self._peers.knows_title(calling):
            return "unknown calling AE title", _REJECT_CALLING_AE
        if not self._peers.allows(calling, address):
            return "address not allowed", _REJECT_NO_REASON
        if not self._store.has_room():
            return "disk reserve", _REJECT_CONGESTED
        return "", _REJECT_NO_REASON

    def _on_aborted(self, event: Any) -> None:
        get_logger().info("association_aborted", address=event.assoc.requestor.address)

    def _note_study(self, association: Any, study_uid: str) -> None:
        if self._settings.study.quiet_seconds_after_release is not None:
            with self._brought_lock:
                # An association whose sender had gone before the answer has ended already, and ends no more.
                self._brought = {a: brought for a, brought in self._brought.items() if a.is_alive()}
                self._brought.setdefault(association, set()).add(study_uid)

    def _forget_studies(self, event: Any) -> set[str]:
        """Take what an association has brought off the list; the studies that no other association brings too."""
        with self._brought_lock:
            mine = self._brought.pop(event.assoc, set())
            return mine.difference(*self._brought.values())

    def _on_released(self, event: Any) -> None:
        """The sender has said all that it wanted to say: a hint that its studies are complete."""
        released = self._forget_studies(event)
        if not released:
            return
        try:
            with self._database.write() as session:
                studies.sender_released(session, released, utc_now())
        except Exception:  # the quiet time decides then
            get_logger().exception("release_not_noted")

    def _on_echo(self, event: Any) -> int:
        return SUCCESS

    def _on_store(self, event: Any) -> int:
        if not self._may_send(event):
            return messages.NOT_AUTHORISED
        dimse = event.assoc.dimse
        dimse.is_storing = True
        try:
            status, study_uid = self._receive(event)
            calling, sop_class = _title(event.assoc.requestor.ae_title), str(event.request.AffectedSOPClassUID)
            self._audit.stored(event.assoc, calling, study_uid, sop_class, status)
            if status == SUCCESS and study_uid:
                self._note_study(event.assoc, study_uid)
            return status
        except Exception:  # nothing that a peer sends may end the process
            get_logger().exception("store_failed")
            return CANNOT_UNDERSTAND
        finally:
            dimse.is_storing = False

    def _receive(self, event: Any) -> tuple[int, str]:
        """The status to answer, and the study where it is known."""
        requestor, request = event.assoc.requestor, event.request
        if event.assoc.dimse.was_too_large(request.MessageID):
            return self._store.refuse_too_large(request.AffectedSOPInstanceUID, _title(requestor.ae_title)), ""
        incoming = Incoming.of(event, calling_ae=_title(requestor.ae_title), calling_address=requestor.address)
        study: list[str] = []
        return self._store.receive(incoming, filed=study.append), "".join(study)

    def _may_send(self, event: Any) -> bool:
        requestor = event.assoc.requestor
        return self._peers.may_send(_title(requestor.ae_title), requestor.address)

    # ------------------------------------------------------------ storage commitment

    def _on_commitment_request(self, event: Any) -> tuple[int, None]:
        """A sender asks us to keep its images: on record first, answered after the response."""
        calling = _title(event.assoc.requestor.ae_title)
        if not self._may_send(event):
            return messages.NOT_AUTHORISED, None
        if event.action_type != messages.REQUEST:
            return messages.NO_SUCH_ACTION, None
        in_place = self._settings.answers_to(calling) is None
        try:
            request = messages.read_request(*_encoded(event.request.ActionInformation, event))
            with self._database.write() as session:
                delay = _IN_PLACE_GRACE_S if in_place else 0.0
                promise = promises.accept(session, request, calling, due_in_s=delay)
        except messages.MessageError as error:
            get_logger().warning("commitment_refused", calling_ae=calling, why=str(error))
            return error.status, None
        except Exception:  # nothing that a peer sends may end the process
            get_logger().exception("commitment_failed")
            return messages.PROCESSING_FAILURE, None
        get_logger().info("commitment_asked", calling_ae=calling, transaction_uid=request.transaction_uid)
        if in_place:
            event.assoc.dimse.after_response = lambda: self._answer_in_place(event.assoc, promise)
        return SUCCESS, None

    def _answer_in_place(self, association: Any, promise: Promise) -> None:
        """The answer to a sender that has no address for it, while its association lasts."""
        answer = promises.judge(self._database, self._settings.data_dir, promise)
        # A sender that does not wait has asked for the end by now.
        time.sleep(_IN_PLACE_PAUSE_S)
        if not association.is_established or association.dul.peek_next_pdu() is not None:
            return
        try:
            status, _ = association.send_n_event_report(
                messages.encode_answer(answer),
                answer.event_type,
                messages.SOP_CLASS,
                messages.SOP_INSTANCE,
                msg_id=1,
            )
        except (OSError, RuntimeError, ValueError, AttributeError):
            get_logger().exception("commitment_not_answered")
            return
        if "Status" in status and status.Status == SUCCESS:
            with self._database.write() as session:
                promises.mark_answered(session, promise)

    def _on_commitment_answer(self, event: Any) -> tuple[int, None]:
        """A destination reports what it keeps of our results."""
        calling = _title(event.assoc.requestor.ae_title)
        names = [d.name for d in self._settings.destinations if d.ae_title == calling]
        try:
            answer = messages.read_answer(*_encoded(event.request.EventInformation, event))
            with self._database.write() as session:
                evidence.record(session, names, answer, self._settings.delivery)
        except messages.MessageError as error:
            get_logger().warning("commitment_unreadable", calling_ae=calling, why=str(error))
            return error.status, None
        except Exception:  # as above; the destination reports again
            get_logger().exception("commitment_failed")
            return messages.PROCESSING_FAILURE, None
        return SUCCESS, None

    def _alert(self, kind: str, subject: str, detail: str) -> None:
        try:
            with self._database.write() as session:
                raise_alert(session, kind, subject, detail)
        except Exception:  # the log has it; a full disk must not end the association's thread in a traceback
            get_logger().exception("alert_failed")


class Peers:
    """Who may call: the settings' peers and archives send images (this machine alone if there are no peers);
    destinations report what they keep."""

    def __init__(self, settings: NodeSettings) -> None:
        self._rules: dict[str, list[Any]] = {}
        self._limits: dict[str, int] = {}
        for peer in settings.peers:
            self._limits[peer.ae_title] = max(peer.max_associations, self._limits.get(peer.ae_title, 0))
            networks = [ipaddress.ip_network(text, strict=False) for text in peer.addresses]
            everywhere = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
            self._rules.setdefault(peer.ae_title, []).extend(networks or everywhere)
        self._archives = [(archive.ae_title, archive.host) for archive in settings.archives]
        self._destinations = [(destination.ae_title, destination.host) for destination in settings.destinations]

    def most_associations(self, ae_title: str) -> int:
        """How many associations someone of this AE title may have; 0 where no limit of its own is set. Of several tables of one
        title the largest limit counts."""
        return self._limits.get(ae_title, 0)

    def knows_title(self, ae_title: str) -> bool:
        """Whether someone has this AE title (any is good where no peers are set)."""
        others = {title for title, _ in (*self._archives, *self._destinations)}
        return not self._rules or ae_title in self._rules or ae_title in others

    def allows(self, ae_title: str, address: str) -> bool:
        """Whether someone of this AE title may come from this address."""
        return self.may_send(ae_title, address) or _is_one_of(self._destinations, ae_title, address)

    def may_send(self, ae_title: str, address: str) -> bool:
        """Whether it may send images and ask for them to be kept."""
        ip = _ip(address)
        if not self._rules and ip.is_loopback:
            return True
        rules = self._rules.get(ae_title, [])
        return any(ip in network for network in rules) or _is_one_of(self._archives, ae_title, address)


def _is_one_of(partners: list[tuple[str, str]], ae_title: str, address: str) -> bool:
    """Whether the address is that of a partner of this title."""
    return any(title == ae_title and _ip(address) in _addresses_of(host) for title, host in partners)


def _addresses_of(host: str) -> set[Any]:
    try:
        return {_ip(str(found[4][0])) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def _ip(address: str) -> Any:
    ip = ipaddress.ip_address(address.split("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip


def tls_context(listener: Listener) -> ssl.SSLContext | None:
    """The server's TLS, or None. With ``tls_ca``, peers must show a certificate (mutual authentication)."""
    if listener.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(listener.tls_cert, listener.tls_key)
    if listener.tls_ca is not None:
        context.load_verify_locations(listener.tls_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def tame_pynetdicom() -> None:
    """No identifiers in logs, no expensive log handlers, no private classes."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.UNRESTRICTED_STORAGE_SERVICE = False


def run_listener(settings: NodeSettings, database: Database, stop: StopFlag) -> None:
    """Serve until asked to stop. The first listener on a data folder reconciles it before it accepts anything."""
    keep_memory_flat()
    store = InstanceStore.of(settings, database)
    listener = StorageListener(settings, database, store)
    with exclusive_lock(settings.data_dir / "listener.lock") as first:
        if first:
            store.reconcile()
        listener.start()
        get_logger().info(
            "listening", ae_title=settings.listener.ae_title, host=settings.listener.host, port=listener.port
        )
        notify_ready()
        while not stop.wait(_LOOK_EVERY_S):
            try:
                listener.report_quiet()
                _close_disk_alert(settings, database, store)
            except Exception:  # a full disk or a locked database must not end receiving
                get_logger().exception("look_failed")
        listener.stop()
    get_logger().info("stopped")


def _close_disk_alert(settings: NodeSettings, database: Database, store: InstanceStore) -> None:
    if not store.has_room():
        return
    with database.read() as session:
        is_open = any(alert.kind == "disk_reserve" for alert in open_alerts(session))
    if is_open:
        with database.write() as session:
            close_alert(session, "disk_reserve", str(settings.data_dir))


def _encoded(information: Any, event: Any) -> tuple[bytes, str]:
    """The data set of a DIMSE-N message as it came, and its transfer syntax."""
    return (information.getvalue() if information else b""), str(event.context.transfer_syntax)


def _title(value: object) -> str:
    return printable(str(value).strip(), 16)
