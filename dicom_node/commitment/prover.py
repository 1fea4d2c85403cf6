"""Asking destinations whether they keep what they acknowledged, by storage commitment as SCU or by looking (`finders`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from pynetdicom import evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT

from dicom_node.audit.log import AuditLog
from dicom_node.commitment import evidence
from dicom_node.commitment.finders import finder_for
from dicom_node.commitment.messages import (
    REQUEST,
    SOP_CLASS,
    SOP_INSTANCE,
    CommitmentRequest,
    MessageError,
    encode_request,
    read_answer,
)
from dicom_node.database.connection import Database
from dicom_node.delivery.outbox import Parcel
from dicom_node.dicom.remote import RemoteAE, after_response
from dicom_node.errors import DeliveryError, NotOfferedError
from dicom_node.settings.node import AnyDestination, NodeSettings
from dicom_node.settings.sections import Destination
from dicom_node.system.clock import utc_now
from dicom_node.system.lifecycle import StopFlag
from dicom_node.system.log import get_logger

# How long the association of a request stays open for its answer (seconds); a later answer comes to the listener.
_HOLD_S = 2.0


class NoCommitmentError(DeliveryError):
    """The destination does not offer storage commitment. The node looks instead, or asks again later."""


class Prover:
    """Asks for proof of the objects that are due."""

    def __init__(self, settings: NodeSettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._audit = AuditLog(settings)

    def prove_due(self, destination: AnyDestination, stop: StopFlag | None = None) -> None:
        """Ask a destination once about everything that is due."""
        with self._database.read() as session:
            groups = evidence.due(session, destination.name, now=utc_now())
        for group in groups:
            if stop is not None and stop.is_set():
                return
            self._prove(destination, group)

    def _prove(self, destination: AnyDestination, group: Sequence[Parcel]) -> None:
        try:
            if isinstance(destination, Destination) and destination.storage_commitment:
                self._commit(destination, group)
            else:
                self._look(destination, group)
        except NoCommitmentError as error:
            if destination.read_back:
                self._look_instead(destination, group)
            else:
                self._not_answered(group, str(error))
        except DeliveryError as error:
            self._no_answer_to_look(destination, group, str(error))

    def _look_instead(self, destination: AnyDestination, group: Sequence[Parcel]) -> None:
        try:
            self._look(destination, group)
        except DeliveryError as error:
            self._not_answered(group, str(error))

    def _no_answer_to_look(self, destination: AnyDestination, group: Sequence[Parcel], why: str) -> None:
        if destination.ways_of_proof:
            self._not_answered(group, why)
            return
        # Nobody asked for proof; only the status "duplicate" did, and the destination may offer no way to look.
        with self._database.write() as session:
            evidence.give_up(session, group, f"not looked for: {why}")

    def _not_answered(self, group: Sequence[Parcel], why: str) -> None:
        get_logger().warning("proof_not_answered", destination=group[0].destination, why=why)
        with self._database.write() as session:
            evidence.not_answered(session, group, why, self._settings.delivery)

    # ------------------------------------------------------------ storage commitment

    def _commit(self, destination: Destination, group: Sequence[Parcel]) -> None:
        # The request is recorded before it is sent: the answer may reach the listener before we have the response.
        with self._database.write() as session:
            request = evidence.ask(session, group, self._settings.delivery)
        answered = threading.Event()
        handlers = [(evt.EVT_N_EVENT_REPORT, self._on_report, [destination.name])]
        try:
            with RemoteAE.of(self._settings, destination).association(
                [(SOP_CLASS, ())], handlers=handlers
            ) as association:
                after_response(association, N_EVENT_REPORT, answered.set)
                self._request(association, request)
                until = time.monotonic() + _HOLD_S
                while not answered.wait(0.1) and association.is_established and time.monotonic() < until:
                    # The answer may have come to the listener by now.
                    if self._is_answered(request):
                        break
        except NotOfferedError:
            raise NoCommitmentError(f"{destination.name} does not offer storage commitment") from None
        except DeliveryError as error:
            self._not_answered(group, str(error))

    def _request(self, association: Any, request: CommitmentRequest) -> None:
        try:
            status, _ = association.send_n_action(encode_request(request), REQUEST, SOP_CLASS, SOP_INSTANCE, msg_id=1)
        except (OSError, RuntimeError, ValueError, AttributeError) as error:
            raise DeliveryError(f"the commitment request cannot be sent ({type(error).__name__})") from None
        if "Status" not in status:
            raise DeliveryError("no answer to the commitment request: the association was aborted or timed out")
        if status.Status != 0:
            raise DeliveryError(f"the commitment request was refused with status 0x{status.Status:04X}")

    def _is_answered(self, request: CommitmentRequest) -> bool:
        with self._database.read() as session:
            return evidence.is_answered(session, request.transaction_uid)

    def _on_report(self, event: Any, name: str) -> tuple[int, None]:
        try:
            data = event.request.EventInformation
            answer = read_answer(data.getvalue() if data else b"", event.context.transfer_syntax)
        except MessageError as error:
            return error.status, None
        with self._database.write() as session:
            evidence.record(session, [name], answer, self._settings.delivery)
        return 0x0000, None

    # ------------------------------------------------------------ looking

    def _look(self, destination: AnyDestination, group: Sequence[Parcel]) -> None:
        for parcel, is_there in finder_for(self._settings, destination, self._audit).look(group):
            with self._database.write() as session:
                if is_there:
                    evidence.found(session, parcel)
                else:
                    evidence.not_found(session, parcel, self._settings.delivery)
            get_logger().info(
                "read_back",
                destination=parcel.destination,
                sop_instance_uid=parcel.sop_instance_uid,
                found=is_there,
            )
