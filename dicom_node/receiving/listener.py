"""The listener: C-ECHO and C-STORE SCP, and storage commitment both ways. It is a separate process and never loads
torch.

pynetdicom's server is used with four changes, each to guard against a peer that misbehaves. A PDU has a maximum length
and one deadline from its first byte to its last. A connection waits in one thread together with all others, TLS
handshakes included, until its association is admitted: silent sockets take no place away from a permitted sender, and a
flood of refused calls makes no threads. Refusals are counted in memory and reported every few seconds. What a peer may
make us hold in memory has a limit, for each object and for all together.
"""

from __future__ import annotations

import ssl
import threading
import time
from typing import Any

from pynetdicom import AE, evt

from dicom_node.alerts.record import close_alert, open_alert
from dicom_node.audit.log import AuditLog
from dicom_node.audit.transfers import Receiving
from dicom_node.commitment import messages
from dicom_node.database.connection import Database
from dicom_node.database.words import AlertKind
from dicom_node.dicom.headers import shown_uid
from dicom_node.dicom.pynetdicom_setup import application_entity
from dicom_node.images import studies
from dicom_node.images.incoming import CANNOT_UNDERSTAND, SUCCESS, Incoming
from dicom_node.images.reconcile import reconcile
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.admission import Admission
from dicom_node.receiving.commitment_requests import CommitmentRequests
from dicom_node.receiving.contexts import supported_contexts
from dicom_node.receiving.peers import Peers
from dicom_node.receiving.server import GuardedServer, title
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import ListenerRules
from dicom_node.system.clock import utc_now
from dicom_node.system.files import exclusive_lock
from dicom_node.system.lifecycle import StopFlag, keep_memory_flat, notify_ready
from dicom_node.system.log import get_logger
from dicom_node.system.loops import keep_doing
from dicom_node.system.tls import server_context

_LOOK_EVERY_S = 10.0
_STOP_GRACE_S = 10.0
_STOP_IDLE_GRACE_S = 1.0


class StorageListener:
    """The C-STORE SCP of a node.

    Parameters
    ----------
    settings
        The settings of the whole node.
    database
        Where alerts about refused associations are raised.
    store
        Keeps what arrives.
    """

    def __init__(self, settings: NodeSettings, database: Database, store: InstanceStore) -> None:
        self._settings = settings
        self._database = database
        self._store = store
        self._peers = Peers(settings)
        self._audit = Receiving(AuditLog(settings), database)
        self._admission = Admission(settings, database, store, self._peers, self._audit)
        self._server: GuardedServer | None = None
        # The studies that each association has brought, if its release matters (`study.quiet_seconds_after_release`).
        self.brought: dict[Any, set[str]] = {}
        self._brought_lock = threading.Lock()

    @property
    def port(self) -> int:
        """The TCP port that the listener listens on."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Bind and serve in threads.

        Raises
        ------
        OSError
            If the listener cannot listen on the address.
        """
        listener = self._settings.listener
        ae = self._application_entity()
        contexts = supported_contexts()
        server = ae.make_server(
            (listener.host, listener.port),
            contexts=contexts,
            evt_handlers=self._handlers(),
            server_class=GuardedServer,
            listener=listener,
            tls=_tls_of(listener),
            doorkeeper=self._admission,
        )
        ae._servers.append(server)
        self._server = server
        self._ae = ae
        self._admission.start()
        threading.Thread(target=server.serve_forever, args=(0.1,), name="listener", daemon=True).start()

    def stop(self) -> None:
        """Accept nothing more, give images on their way some seconds to arrive, then abort all associations."""
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
        self._admission.stop()
        self._audit.report_all()
        self._server = None

    def look(self) -> None:
        """Tell the audit log what the associations that stay open have brought; close alerts about refusals."""
        self._audit.report_quiet()
        self._admission.close_alerts()

    def _may_go_on(self, association: Any, stopping_for_s: float) -> bool:
        limit = _STOP_GRACE_S if association.dimse.is_busy else _STOP_IDLE_GRACE_S
        return bool(association.is_alive() and association.is_established and stopping_for_s < limit)

    def _application_entity(self) -> AE:
        listener = self._settings.listener
        ae = application_entity(listener.ae_title)
        ae.maximum_pdu_size = listener.max_pdu
        ae.network_timeout = listener.idle_timeout_s
        ae.dimse_timeout = listener.idle_timeout_s
        # Our own count decides; pynetdicom's also counts associations that are just ending.
        ae.maximum_associations = 2 * listener.max_associations
        return ae

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_ABORTED, self._on_aborted),
            (evt.EVT_CONN_CLOSE, lambda event: self._audit.ended(event.assoc)),
            (evt.EVT_RELEASED, self._on_released),
            (evt.EVT_CONN_CLOSE, self._forget_studies),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_C_STORE, self._on_store),
            *CommitmentRequests(self._settings, self._database, self._peers).handlers(),
        ]

    def _on_aborted(self, event: Any) -> None:
        get_logger().info("association_aborted", address=event.assoc.requestor.address)

    def note_study(self, association: Any, study_uid: str) -> None:
        """Remember that an association has brought an image of a study."""
        if self._settings.study.quiet_seconds_after_release is not None:
            with self._brought_lock:
                # An association whose sender left before the answer has ended already; its end will not be reported
                # again.
                self.brought = {a: brought for a, brought in self.brought.items() if a.is_alive()}
                self.brought.setdefault(association, set()).add(study_uid)

    def _forget_studies(self, event: Any) -> set[str]:
        """Forget what an association has brought; returns those studies that no other association is bringing too."""
        with self._brought_lock:
            mine = self.brought.pop(event.assoc, set())
            return mine.difference(*self.brought.values())

    def _on_released(self, event: Any) -> None:
        """The sender has nothing more to send: a hint that its studies are complete."""
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
            calling, sop_class = title(event.assoc.requestor.ae_title), shown_uid(event.request.AffectedSOPClassUID)
            self._audit.stored(event.assoc, calling, study_uid, sop_class, status)
            if status == SUCCESS and study_uid:
                self.note_study(event.assoc, study_uid)
            return status
        except Exception:  # nothing that a peer sends may end the process
            get_logger().exception("store_failed")
            return CANNOT_UNDERSTAND
        finally:
            dimse.done()

    def _receive(self, event: Any) -> tuple[int, str]:
        """Returns the status to answer, and the study if it is known."""
        requestor, request = event.assoc.requestor, event.request
        if event.assoc.dimse.was_too_large(request.MessageID):
            return self._store.refuse_too_large(request.AffectedSOPInstanceUID, title(requestor.ae_title)), ""
        incoming = Incoming.of(event, calling_ae=title(requestor.ae_title), calling_address=requestor.address)
        study: list[str] = []
        return self._store.receive(incoming, filed=study.append), "".join(study)

    def _may_send(self, event: Any) -> bool:
        requestor = event.assoc.requestor
        return self._peers.may_send(title(requestor.ae_title), requestor.address)


def _tls_of(rules: ListenerRules) -> ssl.SSLContext | None:
    return None if rules.tls_cert is None else server_context(rules.tls_cert, rules.tls_key, rules.tls_ca)


def run_listener(settings: NodeSettings, database: Database, stop: StopFlag) -> None:
    """Serve until asked to stop. The first listener on a data folder reconciles it before it accepts anything."""
    keep_memory_flat()
    store = InstanceStore.of(settings, database)
    listener = StorageListener(settings, database, store)
    with exclusive_lock(settings.data_dir / "listener.lock") as first:
        if first:
            reconcile(database, store)
        listener.start()
        get_logger().info(
            "listening", ae_title=settings.listener.ae_title, host=settings.listener.host, port=listener.port
        )
        notify_ready()

        def look() -> None:
            listener.look()
            _look_at_disk(settings, database, store)

        keep_doing(look, stop, _LOOK_EVERY_S, failed="look_failed", wait_first=True)
        listener.stop()
    get_logger().info("stopped")


def _look_at_disk(settings: NodeSettings, database: Database, store: InstanceStore) -> None:
    """Open the alert about the reserve before anybody is refused, and close it when images can be kept again."""
    subject, has_room = str(settings.data_dir), not store.why_no_room()
    with database.read() as session:
        is_open = open_alert(session, AlertKind.DISK_RESERVE, subject) is not None
    if is_open and has_room:
        with database.write() as session:
            close_alert(session, AlertKind.DISK_RESERVE, subject)
    elif not is_open and not has_room:
        store.tell_of_no_room()
