"""The listener: C-ECHO and C-STORE SCP, storage commitment both ways. A process of its own, and never torch in it.

pynetdicom's server is used with four changes, each for a peer that does not behave: a PDU has a largest length and one
deadline from its first byte to its last; the TLS handshake happens in the connection's own thread; a connection counts
when its association is admitted, so that silent sockets take no place away from a permitted sender; and what a peer may
make us hold in memory has a limit, for each object and for all together.
"""

from __future__ import annotations

import ssl
import threading
import time
from typing import Any

from pynetdicom import AE, evt

from dicom_node.alerts.record import close_alert, open_alerts, raise_alert
from dicom_node.audit.log import AuditLog
from dicom_node.audit.transfers import Receiving
from dicom_node.commitment import evidence, messages, promises
from dicom_node.commitment.promises import Promise
from dicom_node.database.connection import Database
from dicom_node.dicom.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.dicom.pynetdicom_setup import tame_pynetdicom
from dicom_node.images import studies
from dicom_node.images.incoming import CANNOT_UNDERSTAND, SUCCESS, Incoming
from dicom_node.images.reconcile import reconcile
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.contexts import supported_contexts
from dicom_node.receiving.peers import Peers
from dicom_node.receiving.server import SPARE_CONNECTIONS, GuardedServer, title
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import ListenerRules
from dicom_node.system.clock import utc_now
from dicom_node.system.files import exclusive_lock
from dicom_node.system.lifecycle import StopFlag, keep_memory_flat, notify_ready
from dicom_node.system.log import get_logger
from dicom_node.system.tls import server_context

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
_REJECT_CONGESTED = (0x02, 0x03, 0x01)


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
        self.brought: dict[Any, set[str]] = {}
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
            tls=_tls_of(listener),
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
        ae.maximum_associations = listener.max_associations + SPARE_CONNECTIONS
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

    def note_study(self, association: Any, study_uid: str) -> None:
        """Remember that an association has brought an image of a study."""
        if self._settings.study.quiet_seconds_after_release is not None:
            with self._brought_lock:
                # An association whose sender had gone before the answer has ended already, and ends no more.
                self.brought = {a: brought for a, brought in self.brought.items() if a.is_alive()}
                self.brought.setdefault(association, set()).add(study_uid)

    def _forget_studies(self, event: Any) -> set[str]:
        """Take what an association has brought off the list; the studies that no other association brings too."""
        with self._brought_lock:
            mine = self.brought.pop(event.assoc, set())
            return mine.difference(*self.brought.values())

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
            calling, sop_class = title(event.assoc.requestor.ae_title), str(event.request.AffectedSOPClassUID)
            self._audit.stored(event.assoc, calling, study_uid, sop_class, status)
            if status == SUCCESS and study_uid:
                self.note_study(event.assoc, study_uid)
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
            return self._store.refuse_too_large(request.AffectedSOPInstanceUID, title(requestor.ae_title)), ""
        incoming = Incoming.of(event, calling_ae=title(requestor.ae_title), calling_address=requestor.address)
        study: list[str] = []
        return self._store.receive(incoming, filed=study.append), "".join(study)

    def _may_send(self, event: Any) -> bool:
        requestor = event.assoc.requestor
        return self._peers.may_send(title(requestor.ae_title), requestor.address)

    # ------------------------------------------------------------ storage commitment

    def _on_commitment_request(self, event: Any) -> tuple[int, None]:
        """A sender asks us to keep its images: on record first, answered after the response."""
        calling = title(event.assoc.requestor.ae_title)
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
        calling = title(event.assoc.requestor.ae_title)
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
