"""What senders ask us to keep (storage commitment as SCP). A request is recorded before it is acknowledged.

We promise to keep only what is in the index and, bit for bit, on disk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from dicom_node.alerts.record import close_alert, raise_alert
from dicom_node.commitment.messages import (
    CLASS_CONFLICT,
    DUPLICATE_TRANSACTION,
    LARGEST,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    CommitmentAnswer,
    CommitmentRequest,
    MessageError,
    Reference,
)
from dicom_node.database.connection import Database
from dicom_node.database.tables import PromiseRow
from dicom_node.database.words import AlertKind
from dicom_node.images.records import current_instance, is_intact
from dicom_node.system.clock import utc_now

# A requester that could not be reached for this long has asked again or no longer waits.
_GIVEN_UP_AFTER = timedelta(days=1)
_FORGOTTEN_AFTER = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Promise:
    """A request that waits for its answer."""

    row_id: int
    transaction_uid: str
    calling_ae: str
    references: tuple[Reference, ...]
    refusal: int | None
    attempts: int


def check_room(session: Session, calling_ae: str) -> None:
    """Check that a requester does not wait for answers about more instances than one request can name.

    Raises
    ------
    MessageError
        If it does; it may ask again later.
    """
    mine = (PromiseRow.next_attempt_at.is_not(None), PromiseRow.calling_ae == calling_ae)
    waiting = session.scalar(select(func.sum(func.length(PromiseRow.instances))).where(*mine)) or 0
    if waiting > LARGEST:
        raise MessageError(RESOURCE_LIMITATION, "too many instances wait for an answer")


def accept(session: Session, request: CommitmentRequest, calling_ae: str, *, due_in_s: float = 0.0) -> Promise:
    """Record a request, to be answered after ``due_in_s`` seconds.

    A repeat of the same request is the same promise. A different request under a transaction UID that is in use is
    refused when it is answered.
    """
    key = (PromiseRow.calling_ae == calling_ae, PromiseRow.transaction_uid == request.transaction_uid)
    pending = _pending(session, *key)
    instances = json.dumps([[r.sop_class_uid, r.sop_instance_uid] for r in request.references])
    for row in pending:
        if row.instances == instances:
            return _promise(row)
    now = utc_now()
    row = PromiseRow(
        transaction_uid=request.transaction_uid,
        calling_ae=calling_ae,
        instances=instances,
        refusal=DUPLICATE_TRANSACTION if pending else None,
        received_at=now,
        attempts=0,
        next_attempt_at=now + timedelta(seconds=due_in_s),
        last_message="",
    )
    session.add(row)
    session.flush()
    return _promise(row)


def due(session: Session, *, now: datetime) -> list[Promise]:
    """The requests to answer now, oldest first."""
    return [_promise(row) for row in _pending(session, PromiseRow.next_attempt_at <= now)]


def judge(database: Database, data_dir: Path, promise: Promise) -> CommitmentAnswer:
    """What can be promised: for each instance, whether its file exists and has the bytes that the index says."""
    reasons = {r: promise.refusal or _reason(database, data_dir, r) for r in dict.fromkeys(promise.references)}
    return CommitmentAnswer(
        promise.transaction_uid,
        tuple(reference for reference, reason in reasons.items() if not reason),
        tuple((reference, reason) for reference, reason in reasons.items() if reason),
    )


def mark_answered(session: Session, promise: Promise) -> None:
    """Note that the requester has the answer."""
    row = session.get_one(PromiseRow, promise.row_id)
    row.answered_at, row.next_attempt_at, row.instances = utc_now(), None, "[]"
    row.attempts += 1
    # The sender can be told again.
    close_alert(session, AlertKind.COMMITMENT_UNANSWERED, promise.calling_ae)
    session.execute(delete(PromiseRow).where(PromiseRow.answered_at < utc_now() - _FORGOTTEN_AFTER))


def mark_unanswered(session: Session, promise: Promise, why: str, *, after: float | None) -> None:
    """Note that the requester was not reached.

    The answer is tried again in ``after`` seconds, or never again if that is None or it has been tried for a day.
    """
    row = session.get_one(PromiseRow, promise.row_id)
    row.attempts += 1
    row.last_message = why
    if after is not None and utc_now() - row.received_at < _GIVEN_UP_AFTER:
        row.next_attempt_at = utc_now() + timedelta(seconds=after)
        return
    # The requester may ask again under the same transaction UID.
    row.answered_at, row.next_attempt_at, row.instances = utc_now(), None, "[]"
    raise_alert(session, AlertKind.COMMITMENT_UNANSWERED, promise.calling_ae, why)


def _reason(database: Database, data_dir: Path, reference: Reference) -> int:
    """The Failure Reason for an instance; 0 if it is kept."""
    with database.read() as session:
        row = current_instance(session, reference.sop_instance_uid)
    if row is None or row.purged_at is not None:
        return NO_SUCH_INSTANCE
    if row.sop_class_uid != reference.sop_class_uid:
        return CLASS_CONFLICT
    if is_intact(row, data_dir):
        return 0
    with database.write() as session:
        raise_alert(session, AlertKind.MISSING_FILE, row.sop_instance_uid, f"{row.path} is missing or has other bytes")
    return PROCESSING_FAILURE


def _pending(session: Session, *which: ColumnElement[bool]) -> Sequence[PromiseRow]:
    query = select(PromiseRow).where(PromiseRow.next_attempt_at.is_not(None), *which).order_by(PromiseRow.id)
    return session.scalars(query).all()


def _promise(row: PromiseRow) -> Promise:
    references = tuple(Reference(*pair) for pair in json.loads(row.instances))
    return Promise(row.id, row.transaction_uid, row.calling_ae, references, row.refusal, row.attempts)
