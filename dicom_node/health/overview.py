"""What `dicom-node status`, `jobs` and `job` show.

That is: counts, the last studies with state and reason, destinations and alerts.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.alerts import notices
from dicom_node.alerts.record import open_alerts
from dicom_node.analysis import jobs
from dicom_node.database.tables import Alert, Instance, Job, OutboxRow, ReceiverRow, ResultRow, StudyRow
from dicom_node.database.words import EVIDENCE, JOB_STATES, OUTBOX_STATES, UNPROVEN, JobState, OutboxState, StudyState
from dicom_node.images.records import count_instances
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Destination, Email, Webhook
from dicom_node.system.clock import utc_now

# The places that a study can be in, in the order in which it comes to them.
STUDY_PLACES = ("receiving", "waiting", "running", "analysed", "not_analysable", "failed")


def status(session: Session, settings: NodeSettings, *, studies: int = 10) -> dict[str, Any]:
    """The state of the node as plain JSON values; times are ISO 8601, UTC."""
    return {
        "ae_title": settings.listener.ae_title,
        "instances": count_instances(session),
        "studies_total": session.scalar(select(func.count()).select_from(StudyRow)) or 0,
        "studies_receiving": _count(session, StudyRow.state == StudyState.RECEIVING),
        "studies_by_state": _studies_by_state(session),
        "jobs": {state: _count(session, Job.state == state) for state in JOB_STATES},
        "outbox": {state: _count(session, OutboxRow.state == state) for state in OUTBOX_STATES},
        "studies": [_study(session, row) for row in _last_studies(session, studies)],
        "destinations": [_destination(session, name, settings) for name in destination_names(session, settings)],
        "receivers": [_receiver(session, receiver, settings) for receiver in settings.receivers],
        "alerts": alert_list(session),
    }


def alert_list(session: Session) -> list[dict[str, Any]]:
    """The open alerts, latest first."""
    return [_alert(alert) for alert in open_alerts(session)]


def job_list(session: Session, *, limit: int = 50) -> list[dict[str, Any]]:
    """The last jobs, newest first."""
    return [_job(row) for row in session.scalars(select(Job).order_by(Job.id.desc()).limit(limit))]


def job_detail(session: Session, job_id: int) -> dict[str, Any] | None:
    """One job with its events, or None."""
    job = session.get(Job, job_id)
    if job is None:
        return None
    events = [
        {"at": _time(e.at), "event": e.event, "from": e.from_state, "to": e.to_state, "detail": e.detail}
        for e in jobs.history(session, job_id)
    ]
    return {**_job(job), "events": events}


def _count(session: Session, condition: Any) -> int:
    return session.scalar(select(func.count()).where(condition)) or 0


def _last_studies(session: Session, limit: int) -> list[StudyRow]:
    return list(session.scalars(select(StudyRow).order_by(StudyRow.last_received_at.desc()).limit(limit)))


def _study(session: Session, study: StudyRow) -> dict[str, Any]:
    job = jobs.newest(session, study.study_uid)
    result = session.get(ResultRow, job.result_id) if job is not None and job.result_id is not None else None
    images = (Instance.study_uid == study.study_uid) & Instance.is_current & Instance.is_own_result.is_(False)
    images = images & Instance.purged_at.is_(None)
    return {
        "study_uid": study.study_uid,
        "state": _study_state(study, job, result),
        "reason": job.reason if job is not None and study.state == StudyState.COMPLETE else "",
        "generation": study.generation,
        "instances": _count(session, images),
        "last_received_at": _time(study.last_received_at),
        "job": job.id if job is not None else None,
        "sent": _parcels(session, study.study_uid, OutboxState.SENT),
        "proven": _count(session, (OutboxRow.study_uid == study.study_uid) & OutboxRow.proof.in_(EVIDENCE)),
        "to_prove": _count(session, (OutboxRow.study_uid == study.study_uid) & OutboxRow.proof.in_(UNPROVEN)),
        "to_send": _parcels(session, study.study_uid, OutboxState.WAITING),
        "not_sent": _parcels(session, study.study_uid, OutboxState.FAILED),
    }


def _study_state(study: StudyRow, job: Job | None, result: ResultRow | None) -> str:
    return _state_of(study.state, job.state if job else None, result.status if result else None)


def _state_of(study: str, job: str | None, result: str | None) -> str:
    if study == StudyState.RECEIVING or job is None:
        return StudyState.RECEIVING.value
    return result if job == JobState.DONE and result is not None else job


def _studies_by_state(session: Session) -> dict[str, int]:
    """How many studies are in each state, judged by their last job; states without a study are listed too."""
    query = (
        select(StudyRow.state, Job.state, ResultRow.status, func.count())
        .outerjoin(Job, (Job.study_uid == StudyRow.study_uid) & Job.id.in_(jobs.newest_ids()))
        .outerjoin(ResultRow, ResultRow.id == Job.result_id)
        .group_by(StudyRow.state, Job.state, ResultRow.status)
    )
    counts = dict.fromkeys(STUDY_PLACES, 0)
    for study, job, result, count in session.execute(query):
        counts[_state_of(study, job, result)] += count
    return counts


def _parcels(session: Session, study_uid: str, state: str) -> int:
    return _count(session, (OutboxRow.study_uid == study_uid) & (OutboxRow.state == state))


def destination_names(session: Session, settings: NodeSettings) -> list[str]:
    """The settings' destinations, then those that only the outbox still knows."""
    known = [destination.name for destination in settings.destinations]
    return known + [name for name in session.scalars(select(OutboxRow.destination).distinct()) if name not in known]


def _destination(session: Session, name: str, settings: NodeSettings) -> dict[str, Any]:
    mine = OutboxRow.destination == name
    tried = select(OutboxRow).where(mine, OutboxRow.attempts > 0, OutboxRow.state != OutboxState.SENT)
    last = session.scalar(tried.order_by(OutboxRow.next_attempt_at.desc()).limit(1))
    next_at = session.scalar(
        select(func.min(OutboxRow.next_attempt_at)).where(mine, OutboxRow.state == OutboxState.WAITING)
    )
    return {
        "name": name,
        "configured": settings.destination(name) is not None,
        **{state: _count(session, mine & (OutboxRow.state == state)) for state in OUTBOX_STATES},
        "proven": _count(session, mine & OutboxRow.proof.in_(EVIDENCE)),
        "to_prove": _count(session, mine & OutboxRow.proof.in_(UNPROVEN)),
        "proof": _proof_of(settings.destination(name)),
        "last_error": last.last_message if last is not None else "",
        "next_attempt_at": _time(next_at),
    }


def _proof_of(destination: Destination | None) -> str:
    """How a destination is asked to prove that it keeps what it got; empty if it is not asked."""
    ways = {"storage commitment": "storage_commitment", "read back": "read_back"}
    return ", then ".join(words for words, key in ways.items() if getattr(destination, key, False))


def _receiver(session: Session, receiver: Email | Webhook, settings: NodeSettings) -> dict[str, Any]:
    """A receiver of alerts. ``to_tell`` counts what it has not been told yet; None before the first look at it."""
    row = session.get(ReceiverRow, receiver.name)
    remind = timedelta(hours=settings.alerts.remind_hours)
    return {
        "name": receiver.name,
        "how": "e-mail" if isinstance(receiver, Email) else "webhook",
        "to_tell": len(notices.due(session, row, receiver.kinds, now=utc_now(), remind=remind)) if row else None,
        "last_told_at": _time(row.last_sent_at) if row else None,
        "failures": row.attempts if row else 0,
        "last_error": row.last_message if row else "",
        "next_attempt_at": _time(row.next_attempt_at) if row else None,
    }


def _job(job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "study_uid": job.study_uid,
        "generation": job.generation,
        "state": job.state,
        "attempts": job.attempts,
        "created_at": _time(job.created_at),
        "finished_at": _time(job.finished_at),
        "not_before": _time(job.not_before),
        "worker": job.lease_owner or "",
        "reason": job.reason,
    }


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.id,
        "kind": alert.kind,
        "subject": alert.subject,
        "detail": alert.detail,
        "count": alert.count,
        "opened_at": _time(alert.opened_at),
        "last_at": _time(alert.last_at),
    }


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="seconds")
