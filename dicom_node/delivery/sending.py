"""Sending one study to one destination, and recording it in the outbox, the log, alerts and the audit log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dicom_node.alerts.record import raise_alert
from dicom_node.audit import message as audit_message
from dicom_node.audit.log import AuditLog
from dicom_node.audit.message import DESTINATION, SOURCE, Participant
from dicom_node.audit.transfers import Transfer
from dicom_node.database.connection import Database
from dicom_node.database.words import AlertKind
from dicom_node.delivery import outbox
from dicom_node.delivery.channel import NO_ANSWER, Answer, DeliveryChannel, Form, Offer, Outcome
from dicom_node.delivery.outbox import Parcel
from dicom_node.dicom.sop_classes import class_name
from dicom_node.errors import DeliveryError
from dicom_node.settings.node import AnyDestination, NodeSettings
from dicom_node.system.clock import back_off
from dicom_node.system.files import sha256_of
from dicom_node.system.log import get_logger


class Sending:
    """Sends the parcels of a study that are due to a destination.

    It is the channel's `Progress`: every answer is recorded at once.

    Parameters
    ----------
    parcels
        The parcels of one study for this destination.
    """

    def __init__(
        self,
        settings: NodeSettings,
        database: Database,
        audit: AuditLog,
        destination: AnyDestination,
        parcels: Sequence[Parcel],
    ) -> None:
        self._settings = settings
        self._database = database
        self._audit = audit
        self._destination = destination
        self._parcels = parcels
        self._offers: list[Offer] = []
        self._answered: set[int] = set()
        self._us = audit.node(SOURCE, is_requestor=True)
        self._them = Participant(destination.title, DESTINATION, address=destination.host)
        self._transfer = Transfer(audit, database, self._us, self._them)

    def run(self, channel: DeliveryChannel) -> None:
        """Send everything once; parcels that were not answered wait for the next time."""
        self._offers = [offer for parcel in self._parcels if (offer := self._offer(parcel))]
        if not self._offers:
            return
        message = NO_ANSWER.message
        try:
            channel.send(self._offers, self)
        except DeliveryError as error:
            message = str(error)
            self._alert_down(message)
        for parcel in (offer.preferred.parcel for offer in self._offers):
            if parcel.row_id not in self._answered:
                self._record(parcel, Answer(Outcome.RETRY, None, message))
        self._transfer.report()

    # ---------------------------------------------------------------- what the channel tells

    def begin(self) -> None:
        """See `Progress`."""
        classes = Counter(offer.preferred.parcel.sop_class_uid for offer in self._offers)
        study = self._audit.study(self._database, self._parcels[0].study_uid, classes)
        self._audit.record(audit_message.begin_transferring(self._us, self._them, [study]))

    def choose(self, form: Form) -> None:
        """See `Progress`. Negotiation with the destination decided; every later attempt keeps to this form."""
        parcel = form.parcel
        with self._database.write() as session:
            outbox.bind(session, parcel)
        get_logger().info(
            "form_chosen",
            destination=parcel.destination,
            study_uid=parcel.study_uid,
            sop_instance_uid=parcel.sop_instance_uid,
            sop_class=class_name(parcel.sop_class_uid),
        )

    def answer(self, form: Form, answer: Answer) -> None:
        """See `Progress`."""
        parcel = form.parcel
        self._answered.add(parcel.row_id)
        self._record(parcel, answer)
        failure = "" if answer.outcome is Outcome.SENT else answer.message
        self._transfer.note(parcel.study_uid, parcel.sop_class_uid, failure)

    # ---------------------------------------------------------------- files

    def _offer(self, parcel: Parcel) -> Offer | None:
        """The forms of a parcel that are intact on disk.

        If the preferred one is not, None, and the failure is noted.
        """
        parcels = [parcel, *([parcel.alternative] if parcel.alternative else [])]
        forms = tuple(Form(parcel, path) for parcel in parcels if (path := self._whole_file(parcel)))
        if not forms or forms[0].parcel is not parcel:
            self._record(parcel, Answer(Outcome.FAILED, None, f"{parcel.path} is missing or was changed on disk"))
            return None
        return Offer(forms)

    def _whole_file(self, parcel: Parcel) -> Path | None:
        path = self._settings.data_dir / parcel.path
        return path if path.is_file() and sha256_of(path) == parcel.sha256 else None

    # ---------------------------------------------------------------- the record

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
                wants_proof = self._wants_proof(answer)
                outbox.mark_sent(session, parcel, answer.status or 0, answer.message, wants_proof=wants_proof)
            elif answer.outcome is Outcome.FAILED:
                outbox.mark_failed(session, parcel, answer.status, answer.message)
            else:
                pause = back_off(parcel.attempts + 1, rules.retry_first_s, rules.retry_max_s)
                outbox.mark_waiting(session, parcel, answer.status, answer.message, after=pause)

    def _wants_proof(self, answer: Answer) -> bool:
        return bool(self._destination.ways_of_proof) or answer.was_there

    def _alert_down(self, message: str) -> None:
        with self._database.write() as session:
            raise_alert(session, AlertKind.DESTINATION_DOWN, self._destination.name, message)
