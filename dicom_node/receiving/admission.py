"""Deciding who gets an association, and reporting each refusal in the log, an alert and an audit message."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from sqlalchemy import select

from dicom_node.alerts.record import try_to_close, try_to_raise
from dicom_node.audit.transfers import Receiving
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert
from dicom_node.database.words import AlertKind
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.peers import Peers
from dicom_node.receiving.refusals import Refusal
from dicom_node.receiving.server import Caller
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.system.log import get_logger

_MOST_REMEMBERED = 1000
# A caller that is admitted and refused in turns is still refused: its alert waits for a quiet time.
QUIET_AFTER_REFUSAL = timedelta(minutes=10)


class Admission:
    """Judges callers by the settings; it is the `Doorkeeper` of the listener's server.

    Parameters
    ----------
    settings
        The settings of the whole node.
    database
        Where alerts are raised.
    store
        Knows whether there is room for images.
    peers
        Knows who may call.
    audit
        The listener's part of the audit log.
    """

    def __init__(
        self, settings: NodeSettings, database: Database, store: InstanceStore, peers: Peers, audit: Receiving
    ) -> None:
        self._listener = settings.listener
        self._database = database
        self._store = store
        self._peers = peers
        self._audit = audit
        # When callers, by AE title and address, last got a place; the latest last.
        self._admitted: dict[tuple[str, str], datetime] = {}
        self._lock = threading.Lock()

    def judge(self, caller: Caller) -> Refusal | None:
        """See `Doorkeeper`."""
        refusal = self._refusal(caller)
        if refusal is None:
            get_logger().info("association", calling_ae=caller.calling_ae, address=caller.address)
        return refusal

    def most_associations(self, calling_ae: str) -> int:
        """See `Doorkeeper`."""
        return self._peers.most_associations(calling_ae) or self._listener.max_associations

    def admitted(self, caller: Caller) -> None:
        """See `Doorkeeper`."""
        key = caller.calling_ae, caller.address
        with self._lock:
            self._admitted.pop(key, None)
            self._admitted[key] = utc_now()
            if len(self._admitted) > _MOST_REMEMBERED:
                self._admitted.pop(next(iter(self._admitted)))

    def close_alerts(self) -> None:
        """Close the alerts about refusals of callers that have got a place since and were not refused so for a while.

        This is done now and then, so that no association waits for the database.
        """
        mine = select(Alert).where(Alert.kind == AlertKind.REFUSED, Alert.closed_at.is_(None))
        with self._database.read() as session:
            told = session.scalars(mine.where(Alert.last_at <= utc_now() - QUIET_AFTER_REFUSAL)).all()
        with self._lock:
            admitted = dict(self._admitted)
        for alert in told:
            if any(at >= alert.last_at and _is_about(alert, *caller) for caller, at in admitted.items()):
                try_to_close(self._database, AlertKind.REFUSED, alert.subject)

    def refused(self, caller: Caller, refusal: Refusal) -> None:
        """See `Doorkeeper`."""
        calling, called, address = caller.calling_ae, caller.called_ae, caller.address
        why = refusal.words
        get_logger().warning("association_refused", calling_ae=calling, called_ae=called, address=address, why=why)
        detail = f"{_calling(calling)}called AE {called}"
        try_to_raise(self._database, AlertKind.REFUSED, refusal.alert_subject(address), detail)
        if refusal is Refusal.DISK_RESERVE:
            self._store.tell_of_no_room()
        if refusal.is_about_caller:
            self._audit.refused(calling, address, f"association refused: {why}")

    def tls_failed(self, address: str) -> None:
        """See `Doorkeeper`."""
        self._audit.refused("", address, "TLS handshake failed")

    def _refusal(self, caller: Caller) -> Refusal | None:
        if self._listener.require_called_ae and caller.called_ae != self._listener.ae_title:
            return Refusal.WRONG_CALLED_AE
        if not self._peers.knows_title(caller.calling_ae):
            return Refusal.UNKNOWN_CALLING_AE
        if not self._peers.allows(caller.calling_ae, caller.address):
            return Refusal.ADDRESS
        if not self._store.has_room():
            return Refusal.DISK_RESERVE
        return None


def _calling(calling_ae: str) -> str:
    """How the detail of an alert about a caller begins."""
    return f"calling AE {calling_ae}, "


def _is_about(alert: Alert, calling_ae: str, address: str) -> bool:
    """Whether an alert tells of the refusal of an association of this caller."""
    subjects = {refusal.alert_subject(address) for refusal in Refusal}
    return alert.subject in subjects and alert.detail.startswith(_calling(calling_ae))
