"""What must reach whom. There is a row for each result file and destination; only an answer takes a row out of
``waiting``.

A report exists in two forms (docs/decisions/010). It has one row, which is bound to a form before the first byte of
that form is sent, and never changes after that: a destination sees one object for one result.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session, aliased

from dicom_node.alerts.record import close_alert, raise_alert
from dicom_node.database.tables import OutboxRow, ResultFile, ResultRow, is_due
from dicom_node.database.words import AlertKind, OutboxState
from dicom_node.delivery.states import OutboxEvent, ProofEvent, move, move_proof
from dicom_node.results.kinds import ALTERNATIVES
from dicom_node.system.clock import utc_now


@dataclass(frozen=True, slots=True)
class Parcel:
    """One file for one destination. ``path`` is relative to the data folder.

    ``alternative`` is the same content in another SOP class, for a destination that does not take this one.
    """

    row_id: int
    file_id: int
    destination: str
    study_uid: str
    path: str
    sha256: str
    sop_class_uid: str
    sop_instance_uid: str
    attempts: int
    alternative: Parcel | None = None


def enqueue(
    session: Session, files: Iterable[ResultFile], study_uid: str, destinations: Mapping[str, Collection[str]]
) -> int:
    """Add the DICOM files of a result for every destination, in the transaction that stores the result.

    Parameters
    ----------
    destinations
        By name, the roles of the files that it gets (`words.SENT_ROLES`).

    Returns
    -------
    int
        How many rows were added.
    """
    now = utc_now()
    offered = [file for file in map(_offered, files) if file]
    parcels = [(file, name) for file in offered for name, roles in destinations.items() if file.role in roles]
    for file, name in parcels:
        session.add(
            OutboxRow(
                result_file_id=file.id,
                study_uid=study_uid,
                destination=name,
                state=OutboxState.WAITING,
                attempts=0,
                next_attempt_at=now,
                created_at=now,
                last_message="",
            )
        )
    session.flush()
    return len(parcels)


def due(
    session: Session, destination: str, *, now: datetime, longest_pause_s: float = 604800, limit: int = 200
) -> list[list[Parcel]]:
    """The parcels to send to a destination now, grouped by study, oldest study first.

    No parcel waits longer than ``longest_pause_s`` (by default the most that the settings allow).
    """
    other = aliased(ResultFile)
    replaces = or_(*((ResultFile.role == a) & (other.role == b) for a, b in ALTERNATIVES.items()))
    query = (
        select(OutboxRow, ResultFile, other)
        .join(ResultFile, ResultFile.id == OutboxRow.result_file_id)
        .outerjoin(other, (other.result_id == ResultFile.result_id) & replaces & OutboxRow.is_bound.is_(False))
        .where(OutboxRow.state == OutboxState.WAITING, OutboxRow.destination == destination)
        .where(is_due(OutboxRow.next_attempt_at, now, longest_pause_s))
        .order_by(OutboxRow.created_at, OutboxRow.id)
        .limit(limit)
    )
    groups: dict[str, list[Parcel]] = {}
    for row, file, alternative in session.execute(query).all():
        parcel = parcel_of(row, file)
        if alternative is not None:
            parcel = replace(parcel, alternative=parcel_of(row, alternative))
        groups.setdefault(row.study_uid, []).append(parcel)
    return list(groups.values())


def _offered(file: ResultFile) -> ResultFile | None:
    """The file if it is sent by default; None if it is not a DICOM file or only stands in for another one."""
    return file if file.sop_class_uid and file.role not in ALTERNATIVES.values() else None


def bind(session: Session, parcel: Parcel) -> None:
    """Bind the row to this file: it goes to the destination, now and at every later attempt."""
    row = session.get_one(OutboxRow, parcel.row_id)
    row.result_file_id, row.is_bound = parcel.file_id, True


def parcel_of(row: OutboxRow, file: ResultFile) -> Parcel:
    """The parcel that a row stands for."""
    assert file.sop_class_uid
    assert file.sop_instance_uid
    return Parcel(
        row_id=row.id,
        file_id=file.id,
        destination=row.destination,
        study_uid=row.study_uid,
        path=file.path,
        sha256=file.sha256,
        sop_class_uid=file.sop_class_uid,
        sop_instance_uid=file.sop_instance_uid,
        attempts=row.attempts,
    )


def mark_sent(session: Session, parcel: Parcel, status: int, message: str, *, wants_proof: bool) -> None:
    """Note that the destination says it has the object; with ``wants_proof`` it will be asked whether it keeps it.

    A destination that takes an object can be reached again: what could not reach it before need not wait out its pauses.
    """
    row = session.get_one(OutboxRow, parcel.row_id)
    move(row, OutboxEvent.ACKNOWLEDGED)
    row.sent_at, row.proof_attempts = utc_now(), 0
    row.attempts += 1
    if wants_proof:
        move_proof(row, ProofEvent.WANTED)
        row.proof_at = utc_now()
    row.last_status, row.last_message = status, message
    wake(session, parcel.destination, unanswered=True)
    close_alert(session, AlertKind.DESTINATION_DOWN, parcel.destination)
    close_alert(session, AlertKind.DELIVERY_FAILED, subject_of(parcel.destination, parcel.sop_instance_uid))


def wake(session: Session, destination: str, *, unanswered: bool = False) -> int:
    """Let everything that waits for a destination go now, whatever pause it was in; returns how much that is.

    With ``unanswered`` only what had no answer at its last attempt: an object that the destination itself put off waits on.
    """
    now = utc_now()
    waiting = [OutboxRow.destination == destination, OutboxRow.state == OutboxState.WAITING]
    if unanswered:
        waiting.append(OutboxRow.last_status.is_(None))
    later = update(OutboxRow).where(*waiting, OutboxRow.next_attempt_at > now).values(next_attempt_at=now)
    return len(session.scalars(later.returning(OutboxRow.id)).all())


def mark_waiting(session: Session, parcel: Parcel, status: int | None, message: str, *, after: float) -> None:
    """Note that the attempt failed: try again after ``after`` seconds."""
    row = session.get_one(OutboxRow, parcel.row_id)
    move(row, OutboxEvent.PUT_OFF)
    row.attempts += 1
    row.next_attempt_at = utc_now() + timedelta(seconds=after)
    row.last_status, row.last_message = status, message


def mark_failed(session: Session, parcel: Parcel, status: int | None, message: str) -> None:
    """Note that the destination refuses the object for good; an alert says so."""
    row = session.get_one(OutboxRow, parcel.row_id)
    move(row, OutboxEvent.REFUSED)
    row.attempts += 1
    row.last_status, row.last_message = status, message
    raise_alert(session, AlertKind.DELIVERY_FAILED, subject_of(parcel.destination, parcel.sop_instance_uid), message)


def resend(session: Session, study_uid: str) -> int:
    """Send the newest result of a study again to all its destinations; returns the number of parcels."""
    newest = select(func.max(ResultRow.id)).where(ResultRow.study_uid == study_uid).scalar_subquery()
    rows = session.scalars(
        select(OutboxRow)
        .join(ResultFile, ResultFile.id == OutboxRow.result_file_id)
        .where(ResultFile.result_id == newest)
    ).all()
    for row in rows:
        send_again(row, OutboxEvent.RESENT, "to be sent again", after=0)
        row.attempts = row.losses = 0
    return len(rows)


def send_again(row: OutboxRow, event: OutboxEvent, message: str, *, after: float) -> None:
    """Let an object that was sent, or given up, wait to be sent again after ``after`` seconds.

    Raises
    ------
    InvalidTransitionError
        If the event cannot happen to the row.
    """
    move(row, event)
    row.next_attempt_at, row.sent_at = utc_now() + timedelta(seconds=after), None
    row.proof_attempts, row.transaction_uid = 0, None
    row.last_message = message


def waiting_destinations(session: Session) -> Sequence[str]:
    """The names of all destinations for which something waits."""
    return session.scalars(select(OutboxRow.destination).where(OutboxRow.state == OutboxState.WAITING).distinct()).all()


def subject_of(destination: str, sop_instance_uid: str) -> str:
    """The subject of alerts about an object at a destination."""
    return f"{destination} {sop_instance_uid}"
