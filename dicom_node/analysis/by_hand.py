"""Analysing a study because a person asks for it: whatever the rules say, and without waiting for a further series."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from dicom_node.analysis import jobs
from dicom_node.database.tables import StudyRow
from dicom_node.database.words import Cause, JobState, StudyState
from dicom_node.errors import NodeError


def analyse_by_hand(session: Session, study_uid: str, *, now: datetime) -> int | None:
    """Queue the analysis of a study, now and of all that comes later; gives the job.

    Returns
    -------
    int or None
        The number of the job; None if more images may still be coming: then it is queued when they are here.

    Raises
    ------
    NodeError
        If there is no such study, or its job is running.
    """
    study = session.get(StudyRow, study_uid, with_for_update=True)
    if study is None:
        raise NodeError(f"there is no study {study_uid}")
    job = jobs.newest(session, study_uid)
    if job is not None and job.state == JobState.RUNNING:
        raise NodeError(f"job {job.id} of study {study_uid} is running: wait until it has ended")
    study.analyse_anyway = True
    if study.state == StudyState.RECEIVING:
        return None
    if job is not None and job.state == JobState.WAITING:
        job.cause = Cause.BY_HAND
        return jobs.retry(session, job.id).id
    return jobs.enqueue(session, study_uid, study.generation, now=now, cause=Cause.BY_HAND).id
