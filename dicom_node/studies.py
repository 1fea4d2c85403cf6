"""When a study is complete: no image for the quiet time, or the first image older than the longest wait.

A late image opens a new generation; its job analyses all images of the study again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from dicom_node import jobs
from dicom_node.schema import ACTIVE_JOB_STATES, Job, StudyRow


def image_arrived(session: Session, study_uid: str, now: datetime) -> StudyRow:
    """Note an image of a study: the quiet time begins again, and a complete study opens its next generation."""
    study = session.get(StudyRow, study_uid, with_for_update=True)
    if study is None:
        study = StudyRow(
            study_uid=study_uid,
            state="receiving",
            generation=1,
            first_received_at=now,
            last_received_at=now,
            stored_images=0,
            stored_bytes=0,
        )
        session.add(study)
    elif study.state == "complete":
        study.state, study.generation = "receiving", study.generation + 1
        study.first_received_at = study.last_received_at = now
    else:
        study.last_received_at = now
    session.flush()
    return study


def complete_due(
    session: Session, *, now: datetime, quiet_seconds: float, max_wait_seconds: float
) -> Sequence[StudyRow]:
    """Close every study that is due and queue a job for each; part of the caller's transaction.

    A study with an unfinished job waits for the end of that one, so that two jobs never work on one study.
    """
    quiet_since = now - timedelta(seconds=quiet_seconds)
    waiting_since = now - timedelta(seconds=max_wait_seconds)
    active = exists().where(Job.study_uid == StudyRow.study_uid, Job.state.in_(ACTIVE_JOB_STATES))
    due = session.scalars(
        select(StudyRow)
        .where(
            StudyRow.state == "receiving",
            or_(StudyRow.last_received_at <= quiet_since, StudyRow.first_received_at <= waiting_since),
            ~active,
        )
        .order_by(StudyRow.first_received_at)
        .with_for_update(skip_locked=True)
    ).all()
    for study in due:
        study.state = "complete"
        jobs.enqueue(session, study.study_uid, study.generation, now=now)
    return due
