"""Evidence that destinations keep what they acknowledged, by storage commitment or by finding it again.

The proof of an object that was sent goes from ``wanted`` (through ``asked``) to ``committed`` or ``found``. An object
that the destination turns out not to have is sent again; if that keeps happening, it is given up with an alert.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydicom.uid import generate_uid
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.alerts.record import close_alert, raise_alert
from dicom_node.commitment.messages import (
    CLASS_CONFLICT,
    DUPLICATE_TRANSACTION,
    NOT_SUPPORTED,
    RESOURCE_LIMITATION,
    CommitmentAnswer,
    CommitmentRequest,
    Reference,
    reason_text,
)
from dicom_node.database.tables import CommitmentRow, OutboxRow, ResultFile
from dicom_node.database.words import UNPROVEN, AlertKind, OutboxState, Proof
from dicom_node.delivery.outbox import Parcel, parcel_of, send_again, subject_of
from dicom_node.delivery.states import OutboxEvent, ProofEvent, move, move_proof
from dicom_node.settings.sections import DeliveryRules
from dicom_node.system.clock import back_off, utc_now
from dicom_node.system.log import get_logger

# How many questions may stay without a usable answer before a person is told. The node goes on asking after that.
_ASKED_IN_VAIN = 3
# How often the node looks for an object before it takes it for lost: an archive may show it only after a while.
_MOST_LOOKS = 4
# How often an object is sent again because the destination does not have it.
_MOST_LOSSES = 3
_LONGEST_WAIT_S = 86400.0
# Failure reasons that sending the object again cannot cure, and those that may be gone at a later request.
_HOPELESS = (CLASS_CONFLICT, NOT_SUPPORTED)
_ASK_LATER = (DUPLICATE_TRANSACTION, RESOURCE_LIMITATION)


def due(session: Session, destination: str, *, now: datetime, limit: int = 200) -> list[list[Parcel]]:
    """The objects to ask the destination about now, even again after it did not answer in time; grouped by study."""
    query = (
        select(OutboxRow, ResultFile)
        .join(ResultFile, ResultFile.id == OutboxRow.result_file_id)
        .where(OutboxRow.state == OutboxState.SENT, OutboxRow.proof.in_(UNPROVEN))
        .where(OutboxRow.destination == destination, OutboxRow.proof_at <= now)
        .order_by(OutboxRow.proof_at, OutboxRow.id)
        .limit(limit)
    )
    groups: dict[str, list[Parcel]] = {}
    for row, file in session.execute(query).all():
        groups.setdefault(row.study_uid, []).append(parcel_of(row, file))
    return list(groups.values())


def ask(session: Session, parcels: Sequence[Parcel], rules: DeliveryRules) -> CommitmentRequest:
    """A commitment request with its own transaction UID; its rows become due again if it is not answered in time."""
    transaction_uid = str(generate_uid(prefix=None))
    session.add(CommitmentRow(transaction_uid=transaction_uid, destination=parcels[0].destination, asked_at=utc_now()))
    for row in _unproven(session, parcels):
        move_proof(row, ProofEvent.ASKED)
        row.transaction_uid = transaction_uid
        _count_question(session, row, "commitment requests are not answered", first_s=rules.commitment_timeout_s)
    return CommitmentRequest(transaction_uid, tuple(Reference(p.sop_class_uid, p.sop_instance_uid) for p in parcels))


def is_answered(session: Session, transaction_uid: str) -> bool:
    """Whether the answer to a request has come."""
    query = select(CommitmentRow.answered_at).where(CommitmentRow.transaction_uid == transaction_uid)
    return session.scalar(query) is not None


def record(session: Session, destinations: Collection[str], answer: CommitmentAnswer, rules: DeliveryRules) -> bool:
    """Take a destination's answer. Returns False and changes nothing if none of these destinations was asked that.

    A late answer to an earlier request is still evidence for the objects that it says are kept. The objects that it
    says are not kept have been asked for again already.
    """
    asked = session.scalar(select(CommitmentRow).where(CommitmentRow.transaction_uid == answer.transaction_uid))
    if asked is None or asked.destination not in destinations:
        get_logger().warning("commitment_unknown", transaction_uid=answer.transaction_uid)
        return False
    asked.answered_at = utc_now()
    for row, uid in _named(session, asked.destination, list(answer.kept)):
        _keep(session, row, uid, ProofEvent.COMMITTED)
    reasons = {reference.sop_instance_uid: reason for reference, reason in answer.failed}
    for row, uid in _named(session, asked.destination, [reference for reference, _ in answer.failed]):
        if row.proof == Proof.ASKED and row.transaction_uid == answer.transaction_uid:
            _not_committed(session, row, uid, reasons[uid], rules)
    get_logger().info(
        "commitment",
        destination=asked.destination,
        transaction_uid=answer.transaction_uid,
        kept=len(answer.kept),
        failed=len(answer.failed),
    )
    return True


def found(session: Session, parcel: Parcel) -> None:
    """Note that the destination showed the object."""
    for row in _unproven(session, [parcel]):
        _keep(session, row, parcel.sop_instance_uid, ProofEvent.FOUND)


def not_found(session: Session, parcel: Parcel, rules: DeliveryRules) -> None:
    """Note that the destination did not show the object: look again later, and after several looks send it again."""
    for row in _unproven(session, [parcel]):
        row.proof_attempts += 1
        if row.proof_attempts < _MOST_LOOKS:
            pause = back_off(row.proof_attempts, rules.retry_first_s, rules.retry_max_s)
            row.proof_at = utc_now() + timedelta(seconds=pause)
        else:
            _lose(session, row, parcel.sop_instance_uid, "the destination does not find it", rules)


def not_answered(session: Session, parcels: Sequence[Parcel], why: str, rules: DeliveryRules) -> None:
    """Note that a question could not be asked or was refused as a whole: ask again later."""
    for row in _unproven(session, parcels):
        move_proof(row, ProofEvent.NOT_ANSWERED)
        _count_question(session, row, why, first_s=rules.retry_first_s)


def give_up(session: Session, parcels: Sequence[Parcel], why: str) -> None:
    """Give up asking for proof; the objects still count as sent."""
    for row in _unproven(session, parcels):
        move_proof(row, ProofEvent.DROPPED)
        row.proof_at = None
        row.last_message = f"{row.last_message} ({why})"


def _count_question(session: Session, row: OutboxRow, why: str, *, first_s: float) -> None:
    row.proof_attempts += 1
    row.proof_at = utc_now() + timedelta(seconds=back_off(row.proof_attempts, first_s, max(first_s, _LONGEST_WAIT_S)))
    if row.proof_attempts > _ASKED_IN_VAIN:
        raise_alert(session, AlertKind.NOT_PROVEN, row.destination, why)


def _not_committed(session: Session, row: OutboxRow, uid: str, reason: int, rules: DeliveryRules) -> None:
    why = f"not committed: {reason_text(reason)}"
    if reason in _ASK_LATER:
        move_proof(row, ProofEvent.NOT_ANSWERED)
        _count_question(session, row, why, first_s=rules.retry_first_s)
    elif reason in _HOPELESS:
        _fail(session, row, uid, why)
    else:
        _lose(session, row, uid, why, rules)


def _lose(session: Session, row: OutboxRow, uid: str, why: str, rules: DeliveryRules) -> None:
    row.losses += 1
    if row.losses > _MOST_LOSSES:
        _fail(session, row, uid, f"{why} ({row.losses} times)")
        return
    pause = back_off(row.losses, rules.retry_first_s, rules.retry_max_s)
    send_again(row, OutboxEvent.LOST, f"to be sent again: {why}", after=pause)
    raise_alert(session, AlertKind.NOT_KEPT, subject_of(row.destination, uid), f"{why}; it is sent again")


def _fail(session: Session, row: OutboxRow, uid: str, why: str) -> None:
    move(row, OutboxEvent.GIVEN_UP)
    row.last_message = why
    close_alert(session, AlertKind.NOT_KEPT, subject_of(row.destination, uid))
    raise_alert(session, AlertKind.DELIVERY_FAILED, subject_of(row.destination, uid), why)


def _keep(session: Session, row: OutboxRow, uid: str, evidence: ProofEvent) -> None:
    move_proof(row, evidence)
    row.proof_at, row.losses = utc_now(), 0
    close_alert(session, AlertKind.NOT_KEPT, subject_of(row.destination, uid))
    close_alert(session, AlertKind.NOT_PROVEN, row.destination)


def _unproven(session: Session, parcels: Iterable[Parcel]) -> list[OutboxRow]:
    """The rows of those parcels that still lack proof.

    Since they were read, the listener may have received an answer, or a person may have had them sent again.
    """
    rows = [session.get_one(OutboxRow, parcel.row_id, with_for_update=True) for parcel in parcels]
    return [row for row in rows if row.proof in UNPROVEN]


def _named(session: Session, destination: str, references: Sequence[Reference]) -> list[tuple[OutboxRow, str]]:
    """The rows of a destination that were sent and that an answer names, with their SOP Instance UIDs."""
    query = (
        select(OutboxRow, ResultFile.sop_instance_uid)
        .join(ResultFile, ResultFile.id == OutboxRow.result_file_id)
        .where(OutboxRow.destination == destination, OutboxRow.state == OutboxState.SENT)
    )
    named = {reference.sop_instance_uid for reference in references}
    rows: list[Any] = []
    for some in _slices(sorted(named), 500):
        rows += session.execute(query.where(ResultFile.sop_instance_uid.in_(some)).with_for_update(of=OutboxRow)).all()
    return [(row, uid) for row, uid in rows]


def _slices(values: Sequence[str], size: int) -> list[Sequence[str]]:
    return [values[at : at + size] for at in range(0, len(values), size)]
