"""Deciding who gets an association, and reporting refusals in the log, alerts and audit messages."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import select

from dicom_node.alerts.record import raise_alert, try_to_close
from dicom_node.audit.transfers import Receiving
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert
from dicom_node.database.words import AlertKind
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.peers import Peers
from dicom_node.receiving.refusals import Refusal
from dicom_node.receiving.server import Caller
from dicom_node.receiving.tally import REPORT_EVERY_S, Count, Tally
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.system.log import get_logger
from dicom_node.system.loops import attempt

_REFUSED = "association_refused"
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
        self._tally = Tally(self.report, REPORT_EVERY_S)
        # Refusals whose alerts could not be written yet; it has no more keys than the tally.
        self._unwritten: dict[tuple[str, str], Count] = {}
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
        self._tally.flush()
        mine = select(Alert).where(Alert.kind == AlertKind.REFUSED, Alert.closed_at.is_(None))
        with self._database.read() as session:
            told = session.scalars(mine.where(Alert.last_at <= utc_now() - QUIET_AFTER_REFUSAL)).all()
        with self._lock:
            admitted = dict(self._admitted)
        for alert in told:
            if any(at >= alert.last_at and _is_about(alert, *caller) for caller, at in admitted.items()):
                try_to_close(self._database, AlertKind.REFUSED, alert.subject)

    def refused(self, caller: Caller, refusal: Refusal) -> None:
        """See `Doorkeeper`. This only counts: a stranger may come thousands of times a minute."""
        self._tally.note(Count(_REFUSED, refusal.words, caller.address, caller.calling_ae, caller.called_ae))

    def failed(self, event: str, address: str, why: str) -> None:
        """See `Doorkeeper`."""
        self._tally.note(Count(event, why, address))

    def start(self) -> None:
        """Start to report what was counted."""
        self._tally.start()

    def stop(self) -> None:
        """Report what is left."""
        self._tally.stop()

    def report(self, counts: Sequence[Count]) -> bool:
        """Write what was counted: a log line each, the alerts in one transaction, and audit messages.

        Returns whether alerts are left over, since the database did not take them; the next report has them too.
        """
        for count in counts:
            self._log(count)
            if count.event == _REFUSED:
                self._unwritten[count.why, count.address] = self._with_unwritten(count)
        attempt(self._write_alerts, "alert_failed")
        if any(count.why == Refusal.DISK_RESERVE.words for count in counts):
            self._store.tell_of_no_room()
        for count in counts:
            self._tell_audit(count)
        return bool(self._unwritten)

    def _log(self, count: Count) -> None:
        titles = {"calling_ae": count.calling, "called_ae": count.called} if count.event == _REFUSED else {}
        get_logger().warning(count.event, **titles, address=count.address, why=count.why, times=count.times)

    def _with_unwritten(self, count: Count) -> Count:
        before = self._unwritten.get((count.why, count.address))
        return replace(count, times=count.times + before.times) if before else count

    def _write_alerts(self) -> None:
        if not self._unwritten:
            return
        with self._database.write(even_if_lost=True) as session:
            for count in self._unwritten.values():
                subject, detail = (
                    f"{count.address}: {count.why}",
                    f"{_calling(count.calling)}called AE {count.called}",
                )
                raise_alert(session, AlertKind.REFUSED, subject, detail, times=count.times, at=count.at)
        self._unwritten.clear()

    def _tell_audit(self, count: Count) -> None:
        if count.event == "tls_failed":
            self._audit.refused("", count.address, "TLS handshake failed", count.times)
        elif count.event == _REFUSED and Refusal.of_words(count.why).is_about_caller:
            self._audit.refused(count.calling, count.address, f"association refused: {count.why}", count.times)

    def _refusal(self, caller: Caller) -> Refusal | None:
        if self._listener.require_called_ae and caller.called_ae != self._listener.ae_title:
            return Refusal.WRONG_CALLED_AE
        if not self._peers.knows_title(caller.calling_ae):
            return Refusal.UNKNOWN_CALLING_AE
        if not self._peers.allows(caller.calling_ae, caller.address):
            return Refusal.ADDRESS
        if not self._peers.shows_certificate_of(caller.calling_ae, caller.certificate):
            return Refusal.CERTIFICATE
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
