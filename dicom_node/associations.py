"""The listener: C-ECHO and C-STORE SCP. A process of its own, and never torch in it.

pynetdicom's server is used with three changes, each for a peer that does not behave: a PDU has a largest length and one
deadline from its first byte to its last; the TLS handshake happens in the connection's own thread; and associations are
counted when they are established, so that silent sockets take no place away from a permitted sender.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from typing import Any, cast

from pydicom.uid import UID_dictionary
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, _config, build_context, evt, register_uid
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import _STORAGE_CLASSES, Verification
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_node.alerts import close_alert, open_alerts, raise_alert
from dicom_node.files import exclusive_lock
from dicom_node.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.instances import CANNOT_UNDERSTAND, SUCCESS, Incoming, InstanceStore
from dicom_node.lifecycle import StopFlag, notify_ready
from dicom_node.log import get_logger, printable
from dicom_node.schema import Database
from dicom_node.settings import Listener, NodeSettings

# A-ASSOCIATE-RQ with 128 contexts of many transfer syntaxes stays far under it.
SMALLEST_PDU_CAP = 1024 * 1024
_RECEIVE_BLOCK = 65536
# Threads of connections that have not (or not yet) become associations, beyond those that are.
_SPARE_CONNECTIONS = 200
_STOP_GRACE_S = 10.0

# A-ASSOCIATE-RJ result, source and reason (PS3.8 9.3.4).
_REJECT_CALLING_AE = (0x01, 0x01, 0x03)
_REJECT_NO_REASON = (0x01, 0x01, 0x01)
_REJECT_BUSY = (0x02, 0x03, 0x02)
_REJECT_CONGESTED = (0x02, 0x03, 0x01)

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


def supported_contexts() -> list[PresentationContext]:
    """What the node accepts: verification, and storage in all transfer syntaxes."""
    syntaxes = transfer_syntaxes()
    contexts = [build_context(Verification)]
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

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly ``nr_bytes``, or what came before the peer closed.

        Raises
        ------
        OSError
            If more is announced than a PDU may have, or the time is over. pynetdicom closes the connection then.
        """
        if nr_bytes > self.pdu_cap:
            raise OSError(f"a PDU of {nr_bytes} bytes is announced; the limit is {self.pdu_cap}")
        connection = cast("socket.socket", self.socket)
        received = bytearray()
        deadline = time.monotonic() + self.pdu_timeout_s
        while len(received) < nr_bytes:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("a PDU took too long")
            connection.settimeout(remaining)
            block = connection.recv(min(_RECEIVE_BLOCK, nr_bytes - len(received)))
            if not block:
                break
            received += block
        connection.settimeout(self.pdu_timeout_s)
        return received


class GuardedRequestHandler(RequestHandler):
    """Gives each association a `GuardedSocket`."""

    def _create_association(self) -> Any:
        server = cast("GuardedServer", self.server)
        association = super()._create_association()
        # The plain socket has announced the connection already; the one that takes its place announces it itself.
        association.dul.event_queue.queue.clear()
        guarded = GuardedSocket(association, client_socket=cast("socket.socket", self.request))
        guarded.pdu_cap, guarded.pdu_timeout_s = server.pdu_cap, server.pdu_timeout_s
        association.dul.socket = guarded
        association.acse_timeout = server.pdu_timeout_s
        return association


class GuardedServer(ThreadedAssociationServer):
    """Accepts and sets the time-out first; everything that waits for the peer happens in the connection's thread."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, *args: Any, listener: Listener, tls: ssl.SSLContext | None, most_connections: int, **kwargs: Any
    ) -> None:
        self.pdu_timeout_s = listener.pdu_timeout_s
        self.pdu_cap = max(SMALLEST_PDU_CAP, listener.max_pdu + 6)
        self._tls = tls
        self._most_connections = most_connections
        kwargs["request_handler"] = GuardedRequestHandler
        super().__init__(*args, **kwargs)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept only."""
        connection, address = cast("socket.socket", self.socket).accept()
        connection.settimeout(self.pdu_timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Too many connections at once are closed unheard; associations have their own, politer limit."""
        return len(self.active_associations) < self._most_connections

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The connection's own thread."""
        if self._tls is not None:
            try:
                request = self._tls.wrap_socket(request, server_side=True)
            except OSError as error:
                get_logger().warning("tls_failed", address=client_address[0], error=type(error).__name__)
                self.shutdown_request(request)
                return
        super().process_request_thread(request, client_address)

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
        self._server: GuardedServer | None = None

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
            most_connections=listener.max_associations + _SPARE_CONNECTIONS,
        )
        ae._servers.append(server)
        self._server = server
        self._ae = ae
        threading.Thread(target=server.serve_forever, args=(0.1,), name="listener", daemon=True).start()

    def stop(self) -> None:
        """Accept nothing more, let associations end by themselves for some seconds, then abort them."""
        server = self._server
        if server is None:
            return
        associations = server.active_associations
        server.shutdown()
        deadline = time.monotonic() + _STOP_GRACE_S
        while time.monotonic() < deadline and any(a.is_alive() and a.is_established for a in associations):
            time.sleep(0.05)
        for association in associations:
            if association.is_alive():
                association.abort()
        self._server = None

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
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ABORTED, self._on_aborted),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_C_STORE, self._on_store),
        ]

    def _on_requested(self, event: Any) -> None:
        association = event.assoc
        request = association.requestor.primitive
        calling, called = _title(request.calling_ae_title), _title(request.called_ae_title)
        address = association.requestor.address
        reason, code = self._refusal(calling, called, address)
        if not reason:
            get_logger().info("association", calling_ae=calling, address=address)
            return
        get_logger().warning("association_refused", calling_ae=calling, called_ae=called, address=address, why=reason)
        if code is not _REJECT_BUSY:
            self._alert("refused", f"{address}: {reason}", f"calling AE {calling}, called AE {called}")
        association.acse.send_reject(*code)
        association.is_rejected = True
        # The rejection leaves with the provider's next turn; the connection ends after it.
        time.sleep(0.1)
        association.kill()

    def _refusal(self, calling: str, called: str, address: str) -> tuple[str, tuple[int, int, int]]:
        """Why an association is refused, and the code to say so; an empty reason if it is not."""
        listener = self._settings.listener
        if listener.require_called_ae and called != listener.ae_title:
            return "wrong called AE title", (0x01, 0x01, 0x07)
        if not self._peers.knows_title(calling):
            return "unknown calling AE title", _REJECT_CALLING_AE
        if not self._peers.allows(calling, address):
            return "address not allowed", _REJECT_NO_REASON
        server = self._server
        if server and sum(a.is_established for a in server.active_associations) >= listener.max_associations:
            return "too many associations", _REJECT_BUSY
        if not self._store.has_room():
            return "disk reserve", _REJECT_CONGESTED
        return "", _REJECT_NO_REASON

    def _on_aborted(self, event: Any) -> None:
        get_logger().info("association_aborted", address=event.assoc.requestor.address)

    def _on_echo(self, event: Any) -> int:
        return SUCCESS

    def _on_store(self, event: Any) -> int:
        try:
            return self._store.receive(_incoming(event))
        except Exception:  # nothing that a peer sends may end the process
            get_logger().exception("store_failed")
            return CANNOT_UNDERSTAND

    def _alert(self, kind: str, subject: str, detail: str) -> None:
        try:
            with self._database.write() as session:
                raise_alert(session, kind, subject, detail)
        except Exception:  # the log has it; a full disk must not end the association's thread in a traceback
            get_logger().exception("alert_failed")


class Peers:
    """Who may send: the settings' peers, or this machine alone if there are none."""

    def __init__(self, settings: NodeSettings) -> None:
        self._rules: dict[str, list[Any]] = {}
        for peer in settings.peers:
            networks = [ipaddress.ip_network(text, strict=False) for text in peer.addresses]
            everywhere = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
            self._rules.setdefault(peer.ae_title, []).extend(networks or everywhere)

    def knows_title(self, ae_title: str) -> bool:
        """Whether some peer has this AE title (any is good where no peers are set)."""
        return not self._rules or ae_title in self._rules

    def allows(self, ae_title: str, address: str) -> bool:
        """Whether a peer of this AE title may come from this address."""
        ip = ipaddress.ip_address(address.split("%")[0])
        mapped = getattr(ip, "ipv4_mapped", None)
        ip = mapped or ip
        if not self._rules:
            return ip.is_loopback
        return any(ip in network for network in self._rules.get(ae_title, []))


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
    store = InstanceStore(
        database, settings.data_dir, reserve_bytes=int(settings.retention.disk_reserve_gb * 1_000_000_000)
    )
    listener = StorageListener(settings, database, store)
    with exclusive_lock(settings.data_dir / "listener.lock") as first:
        if first:
            store.reconcile()
        listener.start()
        get_logger().info(
            "listening", ae_title=settings.listener.ae_title, host=settings.listener.host, port=listener.port
        )
        notify_ready()
        while not stop.wait(10):
            _close_disk_alert(settings, database, store)
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


def _incoming(event: Any) -> Incoming:
    request, context = event.request, event.context
    return Incoming(
        sop_class_uid=str(request.AffectedSOPClassUID),
        sop_instance_uid=str(request.AffectedSOPInstanceUID),
        transfer_syntax_uid=str(context.transfer_syntax),
        data=request.DataSet.getvalue(),
        calling_ae=_title(event.assoc.requestor.ae_title),
        calling_address=event.assoc.requestor.address,
    )


def _title(value: object) -> str:
    return printable(str(value).strip(), 16)
