"""Closing studies that are complete, and queueing a job for each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.orm import Session

from dicom_node.alerts.record import close_alert, raise_alert
from dicom_node.analysis import jobs
from dicom_node.database.tables import Job, StudyRow, is_due
from dicom_node.database.words import ACTIVE_JOB_STATES, AlertKind, JobState, StudyState
from dicom_node.images import studies


def complete_due(
    session: Session,
    *,
    now: datetime,
    quiet_seconds: float,
    max_wait_seconds: float,
    quiet_seconds_after_release: float | None = None,
) -> Sequence[StudyRow]:
    """Close every study that is due and queue a job for each, within the caller's transaction.

    A study whose job is running waits until that job ends, so that two jobs never work on one study. A job that waits for a
    worker, for its next attempt or for a series is superseded by the new one, which is about the same images and more.
    """
    quiet = StudyRow.last_received_at <= now - timedelta(seconds=quiet_seconds)
    if quiet_seconds_after_release is not None:
        quiet |= StudyRow.released_at <= now - timedelta(seconds=quiet_seconds_after_release)
    since = now - timedelta(seconds=max_wait_seconds)
    waited = is_due(StudyRow.first_received_at, since, 2 * max_wait_seconds)
    active = exists().where(Job.study_uid == StudyRow.study_uid, Job.state == JobState.RUNNING)
    due = session.scalars(
        select(StudyRow)
        .where(
            StudyRow.state == StudyState.RECEIVING,
            or_(waited, studies.IS_WHOLE, and_(StudyRow.images_expected.is_(None), quiet)),
            ~active,
        )
        .order_by(StudyRow.first_received_at)
        .with_for_update(skip_locked=True)
    ).all()
    closed = [study for study in due if _supersede_waiting(session, study.study_uid)]
    for study in closed:
        studies.close(study)
        job = jobs.enqueue(session, study.study_uid, study.generation, now=now)
        _judge(session, study, job)
    return closed


def _supersede_waiting(session: Session, study_uid: str) -> bool:
    """End the waiting job of a study, if there is one; False if a worker has just taken it."""
    mine = select(Job).where(Job.study_uid == study_uid, Job.state.in_(ACTIVE_JOB_STATES)).with_for_update()
    job = session.scalar(mine.execution_options(populate_existing=True))
    if job is None:
        return True
    if job.state == JobState.RUNNING:
        return False
    jobs.supersede(session, job)
    return True


def _judge(session: Session, study: StudyRow, job: Job) -> None:
    """Raise or close the alert about missing images, and note them in the job's history."""
    if study.images_expected is None or study.images_here is None:
        return
    if study.images_here >= study.images_expected:
        close_alert(session, AlertKind.INCOMPLETE_STUDY, study.study_uid)
        return
    detail = f"{study.images_here} of the {study.images_expected} MR images that the sender's archive has came in time"
    jobs.note_incomplete(session, job, detail)
    raise_alert(session, AlertKind.INCOMPLETE_STUDY, study.study_uid, detail)
