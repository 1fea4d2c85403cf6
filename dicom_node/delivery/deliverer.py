"""Sending results by C-STORE: one association per study and destination, each destination on its own.

The stored file is sent byte for byte. An association that failed in any way is never used again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from dicom_node.alerts.record import raise_alert
from dicom_node.audit import message as audit_message
from dicom_node.audit.log import AuditLog
from dicom_node.audit.message import DESTINATION, SOURCE, Participant
from dicom_node.audit.transfers import Transfer
from dicom_node.database.connection import Database
from dicom_node.database.words import AlertKind
from dicom_node.delivery import outbox
from dicom_node.delivery.channel import NO_ANSWER, Answer, Offer, Outcome
from dicom_node.delivery.outbox import Parcel
from dicom_node.delivery.store_scu import DUPLICATE, Sender, class_name
from dicom_node.errors import DeliveryError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Destination
from dicom_node.system.clock import back_off, utc_now
from dicom_node.system.files import sha256_of
from dicom_node.system.lifecycle import StopFlag
from dicom_node.system.log import get_logger
from dicom_node.system.loops import keep_doing, wait_for_turn

# An unfinished sending is left after it; the same object goes out again at the next start.
_STOP_GRACE_S = 10.0


# ---------------------------------------------------------------- the outbox


class Delivery:
    """Empties the outbox: one thread for each destination, so that a slow one holds up no other.

    Parameters
    ----------
    prove
        Asks a destination, after each round, whether it keeps what it got.
    """

    def __init__(
        self,
        settings: NodeSettings,
        database: Database,
        prove: Callable[[Destination, StopFlag | None], None] = lambda destination, stop: None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._prove = prove
        self._audit = AuditLog(settings)

    def run(self, stop: StopFlag) -> None:
        """Deliver until asked to stop. Only one process on a data folder delivers; a second one waits for its turn."""
        lock, why = self._settings.data_dir / "delivery.lock", "another process delivers from this data folder"
        with wait_for_turn(lock, stop, waits="delivery_waits", why=why) as mine:
            if mine:
                self._run_all(stop)

    def _run_all(self, stop: StopFlag) -> None:
        self._fail_unknown_destinations()
        threads = [
            threading.Thread(target=self._run_one, args=(d, stop), name=f"delivery-{d.name}", daemon=True)
            for d in self._settings.destinations
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        for thread in threads:
            thread.join(timeout=min(self._settings.delivery.timeout_s, _STOP_GRACE_S))

    def _run_one(self, destination: Destination, stop: StopFlag) -> None:
        def step() -> None:
            self.deliver_due(destination, stop)
            self._prove(destination, stop)

        pause = self._settings.delivery.poll_seconds
        keep_doing(step, stop, pause, failed="delivery_error", destination=destination.name)

    def deliver_due(self, destination: Destination, stop: StopFlag | None = None) -> None:
        """Try everything once that is due for one destination."""
        with self._database.read() as session:
            pause = self._settings.delivery.retry_max_s
            groups = outbox.due(session, destination.name, now=utc_now(), longest_pause_s=pause)
        for group in groups:
            if stop is not None and stop.is_set():
                return
            self._deliver_study(destination, group)

    def _deliver_study(self, destination: Destination, group: Sequence[Parcel]) -> None:
        whole = [offer for parcel in group if (offer := self._offer(parcel))]
        if not whole:
            return
        sender = Sender.of(self._settings, destination)
        answered: set[int] = set()
        us = self._audit.node(SOURCE, is_requestor=True)
        them = Participant(destination.ae_title, DESTINATION, address=destination.host)
        transfer = Transfer(self._audit, self._database, us, them)

        def begin() -> None:
            classes = Counter(offer[0][0].sop_class_uid for offer in whole)
            study = self._audit.study(self._database, group[0].study_uid, classes)
            self._audit.record(audit_message.begin_transferring(us, them, [study]))

        def report(parcel: Parcel, answer: Answer) -> None:
            answered.add(parcel.row_id)
            self._record(parcel, answer)
            failure = "" if answer.outcome is Outcome.SENT else answer.message
            transfer.note(parcel.study_uid, parcel.sop_class_uid, failure)

        message = NO_ANSWER.message
        try:
            sender.send(whole, report, self._choose, begin)
        except DeliveryError as error:
            message = str(error)
            self._alert_down(destination, message)
        for parcel in (offer[0][0] for offer in whole):
            if parcel.row_id not in answered:
                self._record(parcel, Answer(Outcome.RETRY, None, message))
        transfer.report()

    def _offer(self, parcel: Parcel) -> Offer:
        """The forms of a parcel that are whole on disk; none, and a failure on record, if the preferred one is not."""
        forms = [parcel, *([parcel.alternative] if parcel.alternative else [])]
        whole = [(form, path) for form in forms if (path := self._whole_file(form))]
        if not whole or whole[0][0] is not parcel:
            self._record(parcel, Answer(Outcome.FAILED, None, f"{parcel.path} is missing or was changed on disk"))
            return []
        return whole

    def _whole_file(self, parcel: Parcel) -> Path | None:
        path = self._settings.data_dir / parcel.path
        return path if path.is_file() and sha256_of(path) == parcel.sha256 else None

    def _choose(self, parcel: Parcel) -> None:
        """Keep to the form that the destination's negotiation decided for."""
        with self._database.write() as session:
            outbox.bind(session, parcel)
        get_logger().info(
            "form_chosen",
            destination=parcel.destination,
            study_uid=parcel.study_uid,
            sop_instance_uid=parcel.sop_instance_uid,
            sop_class=class_name(parcel.sop_class_uid),
        )

    def _record(self, parcel: Parcel, answer: Answer) -> None:
        get_logger().info(
            "delivery",
            destination=parcel.destination,
            study_uid=parcel.study_uid,
            sop_instance_uid=parcel.sop_instance_uid,
            outcome=answer.outcome.value,
            detail=answer.message,
        )
        rules = self._settings.delivery
        with self._database.write() as session:
            if answer.outcome is Outcome.SENT:
                wants_proof = self._wants_proof(parcel, answer)
                outbox.mark_sent(session, parcel, answer.status or 0, answer.message, wants_proof=wants_proof)
            elif answer.outcome is Outcome.FAILED:
                outbox.mark_failed(session, parcel, answer.status, answer.message)
            else:
                pause = back_off(parcel.attempts + 1, rules.retry_first_s, rules.retry_max_s)
                outbox.mark_waiting(session, parcel, answer.status, answer.message, after=pause)

    def _wants_proof(self, parcel: Parcel, answer: Answer) -> bool:
        destination = self._settings.destination(parcel.destination)
        asks = destination is not None and (destination.storage_commitment or destination.read_back)
        return asks or answer.status == DUPLICATE

    def _alert_down(self, destination: Destination, message: str) -> None:
        with self._database.write() as session:
            raise_alert(session, AlertKind.DESTINATION_DOWN, destination.name, message)

    def _fail_unknown_destinations(self) -> None:
        """Nothing waits for ever for a destination that the settings no longer have: an alert says so."""
        with self._database.write() as session:
            for name in outbox.waiting_destinations(session):
                if self._settings.destination(name) is None:
                    raise_alert(
                        session, AlertKind.DESTINATION_DOWN, name, "waits for a destination that is not in the settings"
                    )
