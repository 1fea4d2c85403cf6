"""What `dicom-node status`, `jobs` and `job` show.

That is: counts, the last studies with state and reason, destinations and alerts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.alerts import notices
from dicom_node.alerts.record import open_alerts
from dicom_node.analysis import jobs
from dicom_node.database.tables import Alert, Instance, Job, OutboxRow, ReceiverRow, ResultRow, StudyRow
from dicom_node.database.words import (
    EVIDENCE,
    JOB_STATES,
    KEPT,
    OUTBOX_STATES,
    UNPROVEN,
    JobState,
    OutboxState,
    StudyState,
)
from dicom_node.delivery.pauses import paused_since
from dicom_node.health.parcels import Parcels
from dicom_node.health.whole_node import whole_node
from dicom_node.images import shown_patients
from dicom_node.images.records import count_instances
from dicom_node.settings.node import AnyDestination, NodeSettings
from dicom_node.settings.sections import Email, Webhook
from dicom_node.system.clock import utc_now

# The places that a study can be in, in the order in which it comes to them.
STUDY_PLACES = ("receiving", "waiting", "running", "analysed", "not_analysable", KEPT, "failed")


def status(session: Session, settings: NodeSettings, *, studies: int = 10) -> dict[str, Any]:
    """The state of the node as plain JSON values; times are ISO 8601, UTC."""
    by_state = select(Job.state, func.count()).group_by(Job.state)
    parcels = Parcels.of_all(session)
    names = destination_names(session, settings)
    paused = paused_since(session)
    return {
        "ae_title": settings.listener.ae_title,
        "node": whole_node(session, settings, utc_now()),
        "instances": count_instances(session),
        "studies_total": session.scalar(select(func.count()).select_from(StudyRow)) or 0,
        "studies_receiving": _count(session, StudyRow.state == StudyState.RECEIVING),
        "studies_by_state": _studies_by_state(session),
        "jobs": dict.fromkeys(JOB_STATES, 0) | dict(session.execute(by_state).all()),
        "outbox": {state: parcels.number(state=state) for state in OUTBOX_STATES},
        "studies": _last_studies(session, studies, with_patients=settings.shown.patient),
        "destinations": [_destination(session, name, settings, parcels, paused.get(name)) for name in names],
        "receivers": [_receiver(session, receiver, settings) for receiver in settings.receivers],
        "alerts": alert_list(session),
    }


def alert_list(session: Session) -> list[dict[str, Any]]:
    """The open alerts, latest first."""
    return [alert(row) for row in open_alerts(session)]


def job_list(session: Session, *, limit: int = 50) -> list[dict[str, Any]]:
    """The last jobs, newest first."""
    return [_job(row) for row in session.scalars(select(Job).order_by(Job.id.desc()).limit(limit))]


def job_detail(session: Session, job_id: int) -> dict[str, Any] | None:
    """One job with its events, and what each series of its study was taken for (`analysis.explanation`); or None."""
    job = session.get(Job, job_id)
    if job is None:
        return None
    events = [
        {"at": time(e.at), "event": e.event, "from": e.from_state, "to": e.to_state, "detail": e.detail}
        for e in jobs.history(session, job_id)
    ]
    return {**_job(job), "selection": json.loads(job.selection) if job.selection else None, "events": events}


def _count(session: Session, condition: Any) -> int:
    return session.scalar(select(func.count()).where(condition)) or 0


def _last_studies(session: Session, limit: int, *, with_patients: bool) -> list[dict[str, Any]]:
    newest = select(StudyRow).order_by(StudyRow.last_received_at.desc()).limit(limit)
    return study_list(session, session.scalars(newest).all(), with_patients=with_patients)


def study_list(session: Session, rows: Sequence[StudyRow], *, with_patients: bool = False) -> list[dict[str, Any]]:
    """Studies as they are listed, with a few queries for all of them together.

    ``with_patients`` adds Patient ID and Accession Number, as far as they are kept: whoever shows them records it.
    """
    uids = [row.study_uid for row in rows]
    last = {job.study_uid: job for job in session.scalars(select(Job).where(Job.study_uid.in_(uids), Job.is_newest))}
    on_disk = (Instance.is_current, Instance.is_own_result.is_(False), Instance.purged_at.is_(None))
    counts = select(Instance.study_uid, func.count()).where(Instance.study_uid.in_(uids), *on_disk)
    images = dict(session.execute(counts.group_by(Instance.study_uid)).all())
    parcels = Parcels.of_studies(session, uids)
    results = _newest_results(session, uids)
    listed = [
        {
            **_study(row, last.get(row.study_uid), images.get(row.study_uid, 0), parcels),
            "result": results.get(row.study_uid),
        }
        for row in rows
    ]
    if with_patients:
        patients = shown_patients.of_studies(session, uids)
        for study in listed:
            patient = patients.get(study["study_uid"])
            study["patient_id"], study["accession"] = (patient.patient_id, patient.accession) if patient else ("", "")
    return listed


def _newest_results(session: Session, uids: Sequence[str]) -> dict[str, str]:
    """The status of the newest result of each study that has one: it stays while the study grows and is read again."""
    newest = select(func.max(ResultRow.id)).where(ResultRow.study_uid.in_(uids)).group_by(ResultRow.study_uid)
    return dict(session.execute(select(ResultRow.study_uid, ResultRow.status).where(ResultRow.id.in_(newest))).all())


def _study(study: StudyRow, job: Job | None, images: int, parcels: Parcels) -> dict[str, Any]:
    uid = study.study_uid
    return {
        "study_uid": uid,
        "state": _state_of(study.state, job.state if job else None, job.outcome if job else None),
        "reason": job.reason if job is not None and study.state == StudyState.COMPLETE else "",
        "generation": study.generation,
        "instances": images,
        "last_received_at": time(study.last_received_at),
        "job": job.id if job is not None else None,
        "sent": parcels.number(uid, state=OutboxState.SENT),
        "proven": parcels.number(uid, proof=EVIDENCE),
        "to_prove": parcels.number(uid, proof=UNPROVEN),
        "to_send": parcels.number(uid, state=OutboxState.WAITING),
        "not_sent": parcels.number(uid, state=OutboxState.FAILED),
    }


def _state_of(study: str, job: str | None, outcome: str | None) -> str:
    if study == StudyState.RECEIVING or job is None:
        return StudyState.RECEIVING.value
    return outcome if job == JobState.DONE and outcome is not None else job


def _studies_by_state(session: Session) -> dict[str, int]:
    """How many studies are in each state, judged by their last job; states without a study are listed too."""
    newest = select(Job.state, Job.outcome, func.count()).where(Job.is_newest).group_by(Job.state, Job.outcome)
    # The last job of a study that is receiving again says how its images before ended; these are few.
    receiving = StudyRow.state == StudyState.RECEIVING
    again = newest.join(StudyRow, StudyRow.study_uid == Job.study_uid).where(receiving)
    counts = dict.fromkeys(STUDY_PLACES, 0)
    counts[StudyState.RECEIVING.value] = _count(session, receiving)
    for query, sign in ((newest, 1), (again, -1)):
        for job, outcome, count in session.execute(query):
            counts[_state_of(StudyState.COMPLETE, job, outcome)] += sign * count
    return counts


def destination_names(session: Session, settings: NodeSettings) -> list[str]:
    """The settings' destinations, then those that only the outbox still knows."""
    known = [destination.name for destination in settings.destinations]
    return known + [name for name in session.scalars(select(OutboxRow.destination).distinct()) if name not in known]


def _destination(
    session: Session, name: str, settings: NodeSettings, parcels: Parcels, paused: datetime | None
) -> dict[str, Any]:
    mine = OutboxRow.destination == name
    unsent = OutboxRow.state.in_((OutboxState.WAITING, OutboxState.FAILED))
    tried = select(OutboxRow).where(mine, OutboxRow.attempts > 0, unsent)
    last = session.scalar(tried.order_by(OutboxRow.next_attempt_at.desc()).limit(1))
    next_at = session.scalar(
        select(func.min(OutboxRow.next_attempt_at)).where(mine, OutboxRow.state == OutboxState.WAITING)
    )
    return {
        "name": name,
        "configured": settings.destination(name) is not None,
        **{state: parcels.number(name, state=state) for state in OUTBOX_STATES},
        "proven": parcels.number(name, proof=EVIDENCE),
        "to_prove": parcels.number(name, proof=UNPROVEN),
        "proof": _proof_of(settings.destination(name)),
        "last_error": last.last_message if last is not None else "",
        # While it is paused, nothing is tried.
        "next_attempt_at": time(None if paused else next_at),
        "paused_since": time(paused),
    }


def _proof_of(destination: AnyDestination | None) -> str:
    """How a destination is asked to prove that it keeps what it got; empty if it is not asked."""
    return ", then ".join(destination.ways_of_proof) if destination else ""


def _receiver(session: Session, receiver: Email | Webhook, settings: NodeSettings) -> dict[str, Any]:
    """A receiver of alerts. ``to_tell`` counts what it has not been told yet; None before the first look at it."""
    row = session.get(ReceiverRow, receiver.name)
    remind = timedelta(hours=settings.alerts.remind_hours)
    return {
        "name": receiver.name,
        "how": "e-mail" if isinstance(receiver, Email) else "webhook",
        "to_tell": len(notices.due(session, row, receiver.kinds, now=utc_now(), remind=remind)) if row else None,
        "last_told_at": time(row.last_sent_at) if row else None,
        "failures": row.attempts if row else 0,
        "last_error": row.last_message if row else "",
        "next_attempt_at": time(row.next_attempt_at) if row else None,
    }


def _job(job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "study_uid": job.study_uid,
        "generation": job.generation,
        "state": job.state,
        "attempts": job.attempts,
        "created_at": time(job.created_at),
        "finished_at": time(job.finished_at),
        "not_before": time(job.not_before),
        "worker": job.lease_owner or "",
        "cause": job.cause or "",
        "reason": job.reason,
    }


def alert(row: Alert) -> dict[str, Any]:
    """An alert as it is listed."""
    return {
        "id": row.id,
        "kind": row.kind,
        "subject": row.subject,
        "detail": row.detail,
        "count": row.count,
        "opened_at": time(row.opened_at),
        "last_at": time(row.last_at),
    }


def time(value: datetime | None) -> str | None:
    """A time as JSON has it: ISO 8601 to the second."""
    return None if value is None else value.isoformat(timespec="seconds")
