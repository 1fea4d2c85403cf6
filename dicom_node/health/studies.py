"""Finding studies, and all that the node knows of one: what `dicom-node find` and `dicom-node study` show."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from dicom_node.alerts.record import open_alerts
from dicom_node.database.tables import Instance, Job, OutboxRow, ResultFile, ResultRow, ShownPatient, StudyRow
from dicom_node.database.words import JobState, StudyState
from dicom_node.errors import NodeError
from dicom_node.health import overview


@dataclass(frozen=True, slots=True)
class Criteria:
    """What is looked for; None or empty for what does not matter.

    Parameters
    ----------
    uid
        A part of the Study Instance UID.
    state
        One of `overview.STUDY_PLACES`.
    peer
        The AE title that sent at least one image.
    since, until
        When the last image came, timezone-aware; ``until`` itself is left out.
    accession, patient_id
        As they are kept where the settings let them be shown.
    """

    uid: str = ""
    state: str | None = None
    peer: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    accession: str = ""
    patient_id: str = ""

    def conditions(self) -> list[ColumnElement[bool]]:
        """As conditions on `StudyRow` and its newest `Job`."""
        found: list[ColumnElement[bool]] = []
        if self.uid:
            found.append(StudyRow.study_uid.contains(self.uid, autoescape=True))
        if self.state is not None:
            found.append(_is_in(self.state))
        if self.peer is not None:
            came = (Instance.study_uid == StudyRow.study_uid, Instance.calling_ae == self.peer)
            found.append(exists().where(*came, Instance.is_own_result.is_(False)))
        if self.since is not None:
            found.append(StudyRow.last_received_at >= self.since)
        if self.until is not None:
            found.append(StudyRow.last_received_at < self.until)
        for column, asked in ((ShownPatient.accession, self.accession), (ShownPatient.patient_id, self.patient_id)):
            if asked:
                found.append(exists().where(ShownPatient.study_uid == StudyRow.study_uid, column == asked))
        return found


def _is_in(state: str) -> ColumnElement[bool]:
    receiving = or_(StudyRow.state == StudyState.RECEIVING, Job.id.is_(None))
    if state == StudyState.RECEIVING:
        return receiving
    is_job = (
        Job.state == state if state in (JobState.WAITING, JobState.RUNNING, JobState.FAILED) else Job.outcome == state
    )
    return and_(~receiving, is_job)


def find(
    session: Session, criteria: Criteria, *, limit: int, with_patients: bool = False
) -> tuple[list[dict[str, Any]], int]:
    """The studies that fit, those with the newest images first, at most ``limit``; and how many fit in all."""
    newest = and_(Job.study_uid == StudyRow.study_uid, Job.is_newest)
    fitting = select(StudyRow).outerjoin(Job, newest).where(*criteria.conditions())
    number = session.scalar(select(func.count()).select_from(fitting.subquery())) or 0
    rows = session.scalars(fitting.order_by(StudyRow.last_received_at.desc()).limit(limit)).all()
    return overview.study_list(session, rows, with_patients=with_patients), number


def named_study(session: Session, uid: str) -> str:
    """The Study Instance UID that a person means: whole, as a table shortens it, or a part that only one study has.

    Raises
    ------
    NodeError
        If no study or more than one has it.
    """
    if session.get(StudyRow, uid) is not None:
        return uid
    start, _, end = uid.partition("…")
    ends = (StudyRow.study_uid.startswith(start, autoescape=True), StudyRow.study_uid.endswith(end, autoescape=True))
    named = ends if start and end else Criteria(uid=uid).conditions()
    fits = select(StudyRow.study_uid).where(*named).order_by(StudyRow.study_uid)
    found = session.scalars(fits.limit(2)).all() if uid else []
    if len(found) != 1:
        raise NodeError(f"several studies have {uid!r} in their UID" if found else f"there is no study {uid}")
    return found[0]


def detail(session: Session, study_uid: str, *, with_patients: bool = False) -> dict[str, Any]:
    """All that the node knows of a study, as plain JSON values; times are ISO 8601, UTC."""
    (shown,) = overview.study_list(session, [session.get_one(StudyRow, study_uid)], with_patients=with_patients)
    results = session.scalars(select(ResultRow).where(ResultRow.study_uid == study_uid).order_by(ResultRow.id)).all()
    return {
        **shown,
        "series": _series(session, study_uid),
        "results": [_result(session, row) for row in results],
        "jobs": _jobs(session, study_uid),
        "alerts": [overview.alert(row) for row in open_alerts(session) if study_uid in f"{row.subject} {row.detail}"],
    }


def job_detail(session: Session, job_id: int) -> dict[str, Any] | None:
    """A job with its events, the judgement of the series, and its result with files and deliveries; None if there is none."""
    found, job = overview.job_detail(session, job_id), session.get(Job, job_id)
    if found is None or job is None:
        return None
    result = session.get(ResultRow, job.result_id) if job.result_id is not None else None
    return {**found, "result": None if result is None else _result(session, result)}


def _series(session: Session, study_uid: str) -> list[dict[str, Any]]:
    columns = (Instance.series_uid, Instance.sop_class_uid, Instance.calling_ae)
    mine = (Instance.study_uid == study_uid, Instance.is_current)
    query = select(*columns, func.count(), func.max(Instance.received_at)).where(*mine).group_by(*columns)
    return [
        {
            "series_uid": uid,
            "sop_class_uid": sop_class,
            "instances": n,
            "from": peer,
            "last_received_at": overview.time(at),
        }
        for uid, sop_class, peer, n, at in session.execute(query.order_by(func.min(Instance.id)))
    ]


def _result(session: Session, result: ResultRow) -> dict[str, Any]:
    files = session.scalars(select(ResultFile).where(ResultFile.result_id == result.id).order_by(ResultFile.id)).all()
    return {
        "result": result.id,
        "generation": result.generation,
        "created_at": overview.time(result.created_at),
        "status": result.status,
        "model_digest": result.model_digest,
        "withheld": result.is_withheld,
        "findings": json.loads(result.findings),
        "files": [
            {"role": f.role, "path": f.path, "sop_instance_uid": f.sop_instance_uid, "sha256": f.sha256} for f in files
        ],
        "deliveries": _deliveries(session, [file.id for file in files]),
    }


def _deliveries(session: Session, file_ids: Collection[int]) -> list[dict[str, Any]]:
    query = select(OutboxRow, ResultFile.role).join(ResultFile, ResultFile.id == OutboxRow.result_file_id)
    rows = session.execute(query.where(ResultFile.id.in_(file_ids)).order_by(OutboxRow.id)).all()
    return [
        {
            "destination": row.destination,
            "role": role,
            "state": row.state,
            "attempts": row.attempts,
            "sent_at": overview.time(row.sent_at),
            "next_attempt_at": overview.time(row.next_attempt_at) if row.state == "waiting" else None,
            "last_message": row.last_message,
            "proof": row.proof,
            "proof_at": overview.time(row.proof_at),
        }
        for row, role in rows
    ]


def _jobs(session: Session, study_uid: str) -> list[dict[str, Any]]:
    rows = session.scalars(select(Job.id).where(Job.study_uid == study_uid).order_by(Job.id)).all()
    return [found for job_id in rows if (found := overview.job_detail(session, job_id)) is not None]
